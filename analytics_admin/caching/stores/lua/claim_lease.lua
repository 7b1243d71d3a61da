-- ARGV: new record, damaged record, head of a damaged value, longest value, tags' ttl ms, fence, holder,
-- lease ms, lease's ttl ms, new tag epochs...
local accepted, tail = ensure_epochs(ARGV[1], ARGV[2], ARGV[5], {unpack(ARGV, 10)})
local epochs, now = accepted[1] .. tail, now_ms()
local found = redis.pcall('GETRANGE', KEYS[2], 0, 1023)
found = type(found) == 'string' and string.match(found, '^[^\n]*\n') or ''
if found ~= ARGV[3] then
  local carried, fresh = string.match(found, '^1 (%S+) %d+ (%d+) %d+ %x+\n$')
  if carried and is_accepted(carried, accepted, tail) and (fresh == '0' or tonumber(fresh) > now) then
    local value = read(KEYS[2], tonumber(ARGV[4]))
    if value then return {'fresh', now, epochs, value} end
  end
end
local fence, holder, lease_ms = ARGV[6], ARGV[7], tonumber(ARGV[8])
local raw = read(KEYS[3], 2048)
if raw then
  local held, by, deadline, held_epochs = string.match(raw, '^([%w_-]+) ([%w_-]+) (%d+) (%S+)$')
  if held_epochs == epochs then
    local left = tonumber(deadline) - now
    -- One further ahead than a lease comes from before the clock was set back. The caller's own: the
    -- reply to its first request was lost.
    if by ~= holder and left > 0 and left <= lease_ms then
      return {'held', now, epochs, held .. ' ' .. by, left}
    end
    fence = held
  end
end
local lease = fence .. ' ' .. holder
local text = lease .. ' ' .. string.format('%.0f', now + lease_ms) .. ' ' .. epochs
redis.call('SET', KEYS[3], text, 'PX', ARGV[9])
return {'granted', now, epochs, lease}
