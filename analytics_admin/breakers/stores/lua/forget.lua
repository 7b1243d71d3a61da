-- Drops a breaker unless it has changed. Needs record.lua.
-- KEYS: index, hash of the breakers that are not closed, record, its other keys.
-- ARGV: name, expected generation.
local row = read(KEYS[3])
local record = row[1] and decode(row[1])
local generation = record and record.g or row[1] and 'damaged' or ''
if generation ~= ARGV[2] then return 0 end
attempt('ZREM', KEYS[1], ARGV[1])
attempt('HDEL', KEYS[2], ARGV[1])
redis.call('UNLINK', unpack(KEYS, 3))
return 1
