-- Drops a breaker unless it has changed. Needs record.lua and publish.lua.
-- KEYS: index, hash of the breakers that are not closed, sequence, record, its other keys.
-- ARGV: name, expected generation, channel.
local row = read(KEYS[4])
local record = row[1] and decode(row[1])
local generation = record and record.g or row[1] and 'damaged' or ''
if generation ~= ARGV[2] then return 0 end
attempt('ZREM', KEYS[1], ARGV[1])
attempt('HDEL', KEYS[2], ARGV[1])
redis.call('UNLINK', unpack(KEYS, 4))
publish(KEYS[3], ARGV[3], {{ARGV[1]}}, true)
return 1
