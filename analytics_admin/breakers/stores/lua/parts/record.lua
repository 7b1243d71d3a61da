-- The server's clock, and a breaker's record. `redis_scripts` says what its hash holds.
local time = redis.call('TIME')
local second = tonumber(time[1])
local now = string.format('%d.%06d', time[1], time[2])

-- generation, state, entered_at, wait, attempts, permits, run, last_failure_at, calls, failures,
-- slow, control, times. `records.py` has the same pattern: both must find the same records
-- damaged. The times are microseconds since entered_at: of the newest success that ended a run, then
-- of the last failures of the run, oldest first.
local RECORD = '^([!-~]+) ([!-~]+) ([!-~]+) ([!-~]+) (%d+) (%d+) (%d+) (%d+%.?%d*) (%d+) (%d+) (%d+) '
  .. '([!-~]+) ([%d,]+)$'

local function is_of_another_type(answer)
  return type(answer) == 'table' and answer.err and string.find(answer.err, 'WRONGTYPE', 1, true)
end

-- Runs a command on keys that other breakers share: where they are of another type, it does nothing.
local function attempt(...)
  local answer = redis.pcall(...)
  if is_of_another_type(answer) then return nil end
  if type(answer) == 'table' and answer.err then return redis.call(...) end -- raises it
  return answer
end

-- Runs a command on a key of the history: what is of another type there makes way.
local function replace(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if is_of_another_type(answer) then redis.call('UNLINK', key) end
  return redis.call(command, key, ...)
end

-- Calls a function that touches one breaker's keys; returns nil where they hold what none can hold.
-- An error of the server, such as a lack of memory, is raised.
local function guarded(touch, ...)
  local is_done, answer = pcall(touch, ...)
  if is_done then return answer end
  if is_of_another_type(answer) then return nil end
  if type(answer) == 'table' then error(answer, 0) end
  local code = string.match(answer, '%f[%u]%u%u%u+%f[%U]')
  if code and code ~= 'WRONGTYPE' and code ~= 'ERR' then error(answer, 0) end
end

-- Returns the record, the hold and the fields asked for: false where there is none. A value that is
-- much too large is replaced, so that it is read once only.
local function read(key, ...)
  local row = redis.pcall('HMGET', key, 'record', 'hold', ...)
  if is_of_another_type(row) then return {'damaged', false} end
  if row.err then return redis.call('HMGET', key, 'record', 'hold', ...) end -- raises it
  if #(row[1] or '') > MAX_RECORD_BYTES or #(row[2] or '') > MAX_HOLD_BYTES then
    redis.call('UNLINK', key)
    redis.call('HSET', key, 'record', 'damaged')
    return {'damaged', false}
  end
  return row
end

-- Returns the record's parts, or nil for a damaged one.
local function decode(record)
  local g, s, e, w, a, p, r, l, c, f, o, k, t = string.match(record, RECORD)
  if not g or #g > 100 or math.max(#a, #p, #r, #c, #f, #o) > 15 or #l > 20 then return nil end
  return {g = g, s = s, e = e, w = w, a = a, p = tonumber(p), r = tonumber(r), l = l,
    c = tonumber(c), f = tonumber(f), o = tonumber(o), k = k, t = t}
end

local function encode(it)
  return string.format('%s %s %s %s %s %d %d %s %d %d %d %s %s', it.g, it.s, it.e, it.w, it.a, it.p,
    it.r, it.l, it.c, it.f, it.o, it.k, it.t)
end
