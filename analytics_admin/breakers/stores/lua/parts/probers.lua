-- Which processes hold the permits of a half-open round. Needs record.lua.
-- The field `probers` of the record's hash lists them as "<process id>:<permits> ...". It does not
-- list permits of processes of a release without it.
local function read_probers(key)
  local held, text = {}, redis.call('HGET', key, 'probers')
  if text and #text <= MAX_HOLD_BYTES then
    for id, number in string.gmatch(text, '(%x+):(%d+)') do held[id] = tonumber(number) end
  end
  return held, text
end

local function write_probers(key, held)
  local list = {}
  for id, number in pairs(held) do list[#list + 1] = string.format('%s:%d', id, number) end
  local text = table.concat(list, ' ')
  if text == '' then
    redis.call('HDEL', key, 'probers')
  elseif #text <= MAX_HOLD_BYTES then
    redis.call('HSET', key, 'probers', text)
  end
end

-- Notes that a process has so many permits more or, if it is negative, fewer. Returns false if it
-- has none to return: they were forgiven.
local function note_permits(key, id, more)
  if not id or more == 0 then return true end
  local held, text = read_probers(key)
  if more < 0 and not held[id] then return not text or #text > MAX_HOLD_BYTES - 100 end -- full
  local number = (held[id] or 0) + more
  held[id] = number > 0 and number or nil
  write_probers(key, held)
  return true
end
