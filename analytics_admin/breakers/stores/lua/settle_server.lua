-- Writes down that what the store holds has been compared with the audit trail. Needs record.lua and
-- server.lua.
-- KEYS: the server that was compared last.
local here, compared, since = server(), read_compared(KEYS[1])
if compared ~= here then since = second end
redis.call('SET', KEYS[1], string.format('%s %d %s %d', here, since, here, second))
return 1
