-- Give back what leases hold, or were charged for when they expired.
-- KEYS 4.. leases
-- ARGV 3 tombstone_ms: how long a late message must still find that they have ended; 0 for no time
--      4 number of this message
-- Answers {1, n}.
local wrong = astray(true)
if wrong then
  return wrong
end
for i = 4, #KEYS do
  local state, holds = read_lease(KEYS[i])
  if state == 'h' or state == 'x' then
    give_back(state, holds)
  end
  end_lease(KEYS[i], ARGV[3], ARGV[4])
end
return {1, wrote()}
