-- Drops a breaker unless it has changed.
-- KEYS: index, hash of the breakers that are not closed, record, its other keys.
-- ARGV: name, expected generation.
local generation = redis.pcall('HGET', KEYS[3], 'g')
if type(generation) == 'table' then generation = '' end
if (generation or '') ~= ARGV[2] then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('UNLINK', unpack(KEYS, 3))
return 1
