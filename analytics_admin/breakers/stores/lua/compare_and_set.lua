-- Makes each move whose record is still as expected. Needs record.lua, probers.lua, history.lua,
-- totals.lua, publish.lua and once.lua.
-- KEYS: index, hash of the breakers that are not closed, sequence; per move: record, moves, failures,
-- periods, policies, totals; the sender's own, see once.lua.
-- ARGV: a list of moves as JSON; channel; the names; number, see once.lua. A move:
-- expected_generation, expected_permits,
-- generation, state, wait, attempts, permits, control; hold, if there is one; prober, the process that
-- wins or returns the permits; transition and actor, if it is recorded; entry among the breakers that
-- are not closed, or "".
local TYPES = {'hash', 'list', 'list', 'hash', 'hash', 'hash'}
local moved = {}

-- Drops what is of another type than the history. Most breakers have little of it.
local function repair(keys, first)
  if redis.call('EXISTS', unpack(keys, first)) == 0 then return end
  for i = first, #keys do
    local found = redis.call('TYPE', keys[i]).ok
    if found ~= TYPES[i] and found ~= 'none' then redis.call('UNLINK', keys[i]) end
  end
end

local function make(move, name, keys)
  local row = read(keys[1])
  local old = row[1] and decode(row[1])
  local generation, permits = row[1] and 'damaged' or '', 0
  if old then generation, permits = old.g, old.p end
  if generation ~= move.expected_generation or permits ~= move.expected_permits then
    return {0, row}
  end
  local is_recorded = generation ~= '' and move.transition
  if not row[1] then attempt('ZADD', KEYS[1], 'NX', second, name) end
  if old and old.g == move.generation then
    if not note_permits(keys[1], move.prober, move.permits - old.p) then return {1, row} end
    old.p = move.permits < old.p and math.max(old.c, move.permits) or move.permits
    row[1] = encode(old)
    redis.call('HSET', keys[1], 'record', row[1])
  else
    row = {string.format('%s %s %s %s %d %d 0 0 0 0 0 %s 0', move.generation, move.state, now,
      move.wait, move.attempts, move.permits, move.control), move.hold or false}
    if not old then redis.call('DEL', keys[1]) end
    redis.call('HSET', keys[1], 'record', row[1]) -- the first write: says if memory lacks
    if redis.call('HLEN', keys[1]) > 1 then -- the hold and the windows of the generation before
      redis.call('DEL', keys[1])
      redis.call('HSET', keys[1], 'record', row[1])
    end
    if move.hold then redis.call('HSET', keys[1], 'hold', move.hold) end
    note_permits(keys[1], move.prober, move.permits)
    repair(keys, is_recorded and 3 or 2) -- what records it repairs the transitions
    if move.entry == '' then
      attempt('HDEL', KEYS[2], name)
    else
      attempt('HSET', KEYS[2], name, move.entry)
    end
    carry_totals(keys[6], old, move.generation, is_recorded and move.transition)
    moved[#moved + 1] = {name, row[1], row[2]}
  end
  if is_recorded then
    old = old or {r = 0, c = 0, f = 0, o = 0}
    keep(keys[2], string.format('%s %s %d %d %d %d ', move.transition, now, old.r, old.c, old.f,
      old.o) .. move.actor, LAST_TRANSITION)
  end
  return {1, row}
end

local made_before, made = done_before(), {}
local answer = {now, '0'}
for i, move in ipairs(cjson.decode(ARGV[1])) do
  local at = 6 * i - 2
  local keys = {unpack(KEYS, at, at + 5)}
  if made_before then
    answer[i + 2] = {tonumber(string.sub(made_before, i, i)) or 0, read(keys[1])}
  else
    answer[i + 2] = guarded(make, move, ARGV[i + 2], keys) or {0, {'damaged', false}}
    made[i] = answer[i + 2][1]
  end
end
if not made_before then note_done(table.concat(made)) end
answer[2] = #moved > 0 and publish(KEYS[3], ARGV[2], moved) or read_sequence(KEYS[3])
return answer
