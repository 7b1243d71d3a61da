-- What a process sends again, since its answer was lost, is done once.
-- The last key is the sender's own: the number of its last script call, and after a space, which of
-- the call's moves were made. The last argument is this call's number, higher than all before it; 0:
-- the caller never sends again.
local own_key, own_number = KEYS[#KEYS], tonumber(ARGV[#ARGV])

-- Returns which moves this call made before, if it is not the first time that it comes.
local function done_before()
  if own_number == 0 then return nil end
  local last = redis.pcall('GET', own_key)
  local number, outcome = string.match(type(last) == 'string' and last or '', '^(%d+) ?(%d*)$')
  number = tonumber(number)
  -- One that is far ahead is damage: no such call was made.
  return number and number >= own_number and number < own_number + 1000 and outcome or nil
end

local function note_done(outcome)
  if own_number == 0 then return end
  redis.call('SET', own_key, string.format('%d %s', own_number, outcome), 'EX', RESEND_SECONDS)
end
