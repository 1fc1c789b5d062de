-- Lower what a source holds in advance of each counter to at most these amounts.
-- KEYS 4 the source's slices, 5.. counters
-- ARGV 3.. amounts
-- Answers {1, n, slice, ...}.
local wrong = astray(true)
if wrong then
  return wrong
end
local state, slices = read_lease(KEYS[4])
if state == 'x' then
  uncharge(slices)
  redis.call('HSET', KEYS[4], '!', 'h')
  redis.call('ZADD', DUE, whole(now_ms() + 30000), KEYS[4])
end
local answer = {1, wrote()}
for i = 5, #KEYS do
  local key, amount = KEYS[i], tonumber(ARGV[i - 2])
  local slice = slices[key]
  if not slice then
    amount = 0
  elseif slice.amount > amount then
    if is_of_this_epoch(key) then
      redis.call('HINCRBY', key, 'h', whole(amount - slice.amount))
    end
    if amount > 0 then
      redis.call('HSET', KEYS[4], key, whole(amount) .. ':' .. slice.bucket)
    else
      redis.call('HDEL', KEYS[4], key)
    end
  else
    amount = slice.amount
  end
  answer[#answer + 1] = amount
end
return answer
