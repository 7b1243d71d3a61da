-- What calls and transitions add up to for as long as a breaker is known. Needs record.lua.
-- A hash of two fields. "before": a generation; the calls, failures and slow calls before it; the
-- transitions to closed, open, half-open and held. What the record of this generation counts comes
-- on top; after a record of another one the totals begin anew. "rejected": rejected calls.
local PLACES = {closed = 4, open = 5, half_open = 6}
local NUMBERS = '^(%S+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$'
local MAX_DIGITS = 15

-- Returns what adds up to the generation, and the rejected calls. What is damaged begins anew.
local function read_totals(key, generation)
  local stored = redis.pcall('HMGET', key, 'before', 'rejected')
  if stored.err then return {0, 0, 0, 0, 0, 0, 0}, 0 end
  local rejected, parts = stored[2] or '0', {string.match(stored[1] or '', NUMBERS)}
  rejected = #rejected <= MAX_DIGITS and tonumber(string.match(rejected, '^%d+$') or '0') or 0
  if parts[1] ~= generation then return {0, 0, 0, 0, 0, 0, 0}, rejected end
  local totals = {}
  for i = 2, #parts do totals[i - 1] = #parts[i] <= MAX_DIGITS and tonumber(parts[i]) or 0 end
  return totals, rejected
end

-- Adds to the totals as the next generation begins; `old` is the record before, if there is one.
local function carry_totals(key, old, generation, transition)
  local to = transition and string.match(transition, '^%S+ %S+ (%S+)')
  if not old then
    redis.call('UNLINK', key)
    if not to then return end
  end
  local totals = read_totals(key, old and old.g or '')
  if old then
    totals[1], totals[2], totals[3] = totals[1] + old.c, totals[2] + old.f, totals[3] + old.o
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
