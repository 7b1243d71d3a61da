-- ARGV: new record, damaged record, tags' ttl ms, fence, lease ms, lease's ttl ms, new tag epochs...
local seen = redis.call('MGET', unpack(KEYS))
local accepted, tail = ensure_epochs(seen, ARGV[1], ARGV[2], ARGV[3], {unpack(ARGV, 7)})
local epochs, now = accepted[1] .. tail, now_ms()
if seen[2] then
  local carried, fresh = string.match(seen[2], '^(%S+) %d+ (%d+) ')
  if carried and is_accepted(carried, accepted, tail) and (fresh == '0' or tonumber(fresh) > now) then
    return {'fresh', now, epochs, seen[2]}
  end
end
local fence = ARGV[4]
if seen[3] then
  local held, deadline, held_epochs = string.match(seen[3], '^(%S+) (%d+) (%S+)$')
  if held_epochs == epochs then
    if held ~= fence and tonumber(deadline) > now then
      return {'held', now, epochs, deadline - now}
    end
    fence = held
  end
end
local lease = fence .. ' ' .. string.format('%.0f', now + ARGV[5]) .. ' ' .. epochs
redis.call('SET', KEYS[3], lease, 'PX', ARGV[6])
return {'granted', now, epochs, lease}
