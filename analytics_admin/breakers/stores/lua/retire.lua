-- Drops what is kept of retired names, unless they have been registered again since. Needs record.lua.
-- KEYS: index; all keys of each name.
-- ARGV: the names.
local each = (#KEYS - 1) / #ARGV
for i, name in ipairs(ARGV) do
  if not redis.call('ZSCORE', KEYS[1], name) then
    local first = 2 + (i - 1) * each
    redis.call('UNLINK', unpack(KEYS, first, first + each - 1))
  end
end
return 1
