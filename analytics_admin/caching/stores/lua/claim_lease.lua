-- ARGV: new record, damaged record, tags' ttl ms, fence, holder, lease ms, lease's ttl ms, new tag epochs...
local seen = redis.call('MGET', unpack(KEYS))
local accepted, tail = ensure_epochs(seen, ARGV[1], ARGV[2], ARGV[3], {unpack(ARGV, 8)})
local epochs, now = accepted[1] .. tail, now_ms()
if seen[2] then
  local carried, fresh = string.match(seen[2], '^(%S+) %d+ (%d+) ')
  if carried and is_accepted(carried, accepted, tail) and (fresh == '0' or tonumber(fresh) > now) then
    return {'fresh', now, epochs, seen[2]}
  end
end
local fence, holder, lease_ms = ARGV[4], ARGV[5], tonumber(ARGV[6])
if seen[3] then
  local held, by, deadline, held_epochs = string.match(seen[3], '^(%S+) (%S+) (%d+) (%S+)$')
  if held_epochs == epochs then
    local left = tonumber(deadline) - now
    -- One further ahead than a lease comes from before the clock was set back.
    if left > 0 and left <= lease_ms then
      return {'held', now, epochs, held .. ' ' .. by, left}
    end
    fence = held
  end
end
local lease = fence .. ' ' .. holder
local text = lease .. ' ' .. string.format('%.0f', now + lease_ms) .. ' ' .. epochs
redis.call('SET', KEYS[3], text, 'PX', ARGV[7])
return {'granted', now, epochs, lease}
