-- What calls and transitions add up to for as long as a breaker is known. Needs record.lua.
-- A hash of two fields. "before": a generation; the calls, failures and slow calls before it; the
-- transitions to closed, open, half-open and held. What the record of this generation counts comes
-- on top; after a record of another one the totals begin anew. "rejected": rejected calls.
local PLACES = {closed = 4, open = 5, half_open = 6}

-- Adds to the totals as the next generation begins; `old` is the record before, if there is one.
local function carry_totals(key, old, generation, transition)
  local to, totals = transition and string.match(transition, '^%S+ %S+ (%S+)'), {0, 0, 0, 0, 0, 0, 0}
  if old then
    local stored = replace('HGET', key, 'before') or ''
    local told, numbers = string.match(stored, '^(%S+)([ %d]+)$')
    if told == old.g and #stored < 256 then
      local at = 0
      for number in string.gmatch(numbers, '%d+') do
        at = at + 1
        totals[at] = tonumber(number)
      end
    end
    totals[1], totals[2], totals[3] = totals[1] + old.c, totals[2] + old.f, totals[3] + old.o
  else
    redis.call('UNLINK', key)
    if not to then return end
  end
  if to then totals[PLACES[to] or 7] = totals[PLACES[to] or 7] + 1 end
  replace('HSET', key, 'before', generation .. string.format(' %d %d %d %d %d %d %d', unpack(totals)))
end

local function add_rejected(key, number)
  local answer = redis.pcall('HINCRBY', key, 'rejected', number)
  if type(answer) == 'table' and answer.err then -- no number was there, or there is no memory
    replace('HSET', key, 'rejected', number)
  end
end
