-- KEYS: the sender's mark, then what to add to. ARGV: the batch's name, ttl of the mark, ttl of the counts,
-- then field, amount ... A reply can be lost after the counts were added; the batch is sent again then
-- and must not count twice.
if redis.call('GET', KEYS[1]) == ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
for key = 2, #KEYS do
  for at = 4, #ARGV, 2 do redis.call('HINCRBY', KEYS[key], ARGV[at], ARGV[at + 1]) end
  redis.call('EXPIRE', KEYS[key], ARGV[3])
end
return 1
