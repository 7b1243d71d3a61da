-- Tells which names are in use or held. Needs record.lua.
-- KEYS: index, hash of the breakers that are not closed.
-- ARGV[1]: seconds for which an unused name is kept, or "" for ever.
local HOLDS = {forced_open = true, disabled = true, metrics_only = true}
local function is_held(name)
  local label = redis.call('HGET', KEYS[2], name) or ''
  local control, ends = string.match(label, '^([^ ]*) ?(.*)$')
  return HOLDS[control] ~= nil and (ends == '' or (tonumber(ends) or 0) > tonumber(now))
end
local oldest = ARGV[1] == '' and '-inf' or '(' .. string.format('%d', now - ARGV[1])
