-- ARGV: fresh record, damaged record, tags' life, fence, lease ms, lease's life, tag tokens...
local seen = redis.call('MGET', unpack(KEYS))
local accepted, tail = draw(seen, ARGV[1], ARGV[2], ARGV[3], {unpack(ARGV, 7)})
local stamp, now = accepted[1] .. tail, now_ms()
if seen[2] then
  local carried, fresh = string.match(seen[2], '^(%S+) %d+ (%d+) ')
  if carried and is_one_of(carried, accepted, tail) and (fresh == '0' or tonumber(fresh) > now) then
    return {'fresh', now, stamp, seen[2]}
  end
end
local fence = ARGV[4]
if seen[3] then
  local held, deadline, under = string.match(seen[3], '^(%S+) (%d+) (%S+)$')
  if under == stamp then
    if held ~= fence and tonumber(deadline) > now then
      return {'held', now, stamp, deadline - now}
    end
    fence = held
  end
end
local lease = fence .. ' ' .. string.format('%.0f', now + ARGV[5]) .. ' ' .. stamp
redis.call('SET', KEYS[3], lease, 'PX', ARGV[6])
return {'granted', now, stamp, lease}
