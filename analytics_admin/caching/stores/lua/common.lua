-- Shared by claim, fill and put. Their KEYS: the epoch record, the value, its lease, the tags' epochs.
-- "epochs" is the cache's epoch and those of the tags, joined by commas. A lease is "fence holder
-- deadline epochs". The fence stays when another caller takes the lease over, and goes with the lease
-- when the value is set or deleted. What is too long, or of another type, is as good as missing.

local function read(key, most)
  local raw = redis.pcall('GETRANGE', key, 0, most)
  if type(raw) == 'string' and raw ~= '' and #raw <= most then return raw end
end

local function is_epoch(text, length)
  return type(text) == 'string' and #text <= length and string.find(text, '^[%w_.-]+$') ~= nil
end

local function accepted_epochs(raw)
  if not raw then return nil end
  local ok, record = pcall(cjson.decode, raw)
  if not ok or type(record) ~= 'table' or type(record.accepted) ~= 'table' then return nil end
  if #record.accepted == 0 then return nil end
  for _, epoch in ipairs(record.accepted) do
    if not is_epoch(epoch, 64) then return nil end
  end
  return record.accepted, is_epoch(record.era, 4) and record.era or ''
end

-- After a soft clear a tag's epoch is followed by the one before, and until when its values may be served.
-- Tags' epochs begin with the era in which they were drawn; those of another era are as good as missing.
local function tag_epoch(key, era)
  local epoch = string.match(read(key, 64) or '', '^[%w_-]+')
  if epoch and #epoch == 12 and epoch:sub(1, #era) == era then return epoch end
end

local function now_ms()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

local function set(key, value, ms)
  if tonumber(ms) > 0 then
    redis.call('SET', key, value, 'PX', ms)
  else
    redis.call('SET', key, value)
  end
end

-- Returns the accepted epochs and the tags' epochs; creates those that are missing or damaged.
local function ensure_epochs(new_record, damaged, tags_ms, tag_epochs)
  local raw = read(KEYS[1], 65536)
  local accepted, era
  if raw ~= damaged then accepted, era = accepted_epochs(raw) end
  if not accepted then
    redis.call('SET', KEYS[1], new_record)
    accepted, era = accepted_epochs(new_record)
  end
  local tail = ''
  for i = 4, #KEYS do
    local epoch = tag_epoch(KEYS[i], era)
    if not epoch then
      epoch = era .. tag_epochs[i - 3]:sub(#era + 1)
      set(KEYS[i], epoch, tags_ms)
    elseif tonumber(tags_ms) == 0 then
      redis.call('PERSIST', KEYS[i])
    else
      local left = redis.call('PTTL', KEYS[i])
      if left >= 0 and left < tonumber(tags_ms) then redis.call('PEXPIRE', KEYS[i], tags_ms) end
    end
    tail = tail .. ',' .. epoch
  end
  return accepted, tail
end

local function is_accepted(epochs, accepted, tail)
  for _, epoch in ipairs(accepted) do
    if epoch .. tail == epochs then return true end
  end
  return false
end

local function head(epochs, now, fresh_ms, computed_ms, checksum)
  local fresh_until = tonumber(fresh_ms) > 0 and now + fresh_ms or 0
  return '1 ' .. epochs .. ' ' .. string.format('%.0f %.0f', now, fresh_until)
    .. ' ' .. computed_ms .. ' ' .. checksum .. string.char(10)
end
