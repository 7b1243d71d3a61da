-- KEYS: the epoch record, then keys of one kind. ARGV: the kind, 1 to remove the keys that are not
-- needed any more. Returns their number. The first 96 bytes of a value or lease hold its epoch.
local raw = redis.pcall('GETRANGE', KEYS[1], 0, 65535)
local ok, record = pcall(cjson.decode, type(raw) == 'string' and raw or '')
local epochs, era = {}, ''
if ok and type(record) == 'table' then
  local servable = type(record.servable_until) == 'table' and record.servable_until or {}
  local now = redis.call('TIME')
  now = now[1] + now[2] / 1000000
  for epoch, till in pairs(servable) do epochs[epoch] = type(till) == 'number' and till > now end
  for _, name in ipairs({'accepted', 'suspended'}) do
    if type(record[name]) == 'table' then
      for _, epoch in ipairs(record[name]) do epochs[epoch] = true end
    end
  end
  if type(record.era) == 'string' then era = record.era end
end
local function is_needed(head)
  if ARGV[1] == 'tag' then
    local epoch, rest = string.match(head, '^([%w_-]+)(.*)$')
    return epoch ~= nil and #epoch == 12 and epoch:sub(1, #era) == era
      and (rest == '' or string.match(rest, '^ [%w_-]+:%d+$') ~= nil)
  end
  local form = ARGV[1] == 'value' and '^1 ([^%s,]+)[ ,]' or '^%S+ %S+ [%d.]+ ([^%s,]+)'
  return epochs[string.match(head, form) or ''] == true
end
local outdated = {}
for i = 2, #KEYS do
  local head = redis.pcall('GETRANGE', KEYS[i], 0, 95)
  if not is_needed(type(head) == 'string' and head or '') then
    outdated[#outdated + 1] = KEYS[i]
  end
end
if #outdated == 0 then return 0 end
return redis.call(ARGV[2] == '1' and 'UNLINK' or 'EXISTS', unpack(outdated))
