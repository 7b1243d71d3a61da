-- Makes each move whose record is still as expected. Needs record.lua.
-- KEYS: records, index, hash of the breakers that are not closed.
-- ARGV per record: expected generation, expected permits; new generation, state, wait, attempts,
-- permits; cause, attempt id, actor; control, until, holder and reason of the hold, all "" without
-- one; name, label before, label after, 1 if it is then closed and not held.
local answer = {now}
local index, astir = KEYS[#KEYS - 1], KEYS[#KEYS]
for i = 1, #KEYS - 2 do
  local key = KEYS[i]
  local at = (i - 1) * 18
  local old = read(key)
  local won = 0
  local permits = tonumber(old[6] or 0) or 0
  if (old[1] or '') == ARGV[at + 1] and permits == tonumber(ARGV[at + 2]) then
    won = 1
    if old[1] == '' then redis.call('DEL', key) end
    if not old[1] then redis.call('ZADD', index, 'NX', second, ARGV[at + 15]) end
    if old[1] == ARGV[at + 3] then
      redis.call('HSET', key, 'p', ARGV[at + 7])
    else
      redis.call('HSET', key, 'g', ARGV[at + 3], 's', ARGV[at + 4], 'e', now, 'w', ARGV[at + 5],
        'a', ARGV[at + 6], 'p', ARGV[at + 7], 'r', 0, 'l', 0, 'c', 0, 'f', 0, 'o', 0)
      redis.call('HDEL', key, 'k', 'u', 'x', 'z')
      if ARGV[at + 11] ~= '' then
        redis.call('HSET', key, 'k', ARGV[at + 11], 'u', ARGV[at + 12], 'x', ARGV[at + 13],
          'z', ARGV[at + 14])
      end
      if ARGV[at + 18] == '1' then
        if old[2] ~= 'closed' or old[12] then redis.call('HDEL', astir, ARGV[at + 15]) end
      else
        local ends = ARGV[at + 12] ~= '' and ' ' .. ARGV[at + 12] or ''
        redis.call('HSET', astir, ARGV[at + 15], ARGV[at + 17] .. ends)
      end
    end
    if old[1] and ARGV[at + 8] ~= '' then
      redis.call('LPUSH', key .. ':moves', table.concat({ARGV[at + 9], ARGV[at + 16],
        ARGV[at + 17], ARGV[at + 8], now, old[7] or 0, old[9] or 0, old[10] or 0, old[11] or 0,
        ARGV[at + 10]}, ' '))
      redis.call('LTRIM', key .. ':moves', 0, LAST_TRANSITION)
      redis.call('EXPIRE', key .. ':moves', RETENTION_SECONDS)
    end
  end
  answer[i + 1] = {won, read(key)}
end
return answer
