-- question: creating and calling closures with upvalues
-- expect: 3375002250000
local s = 0
for i = 1, 1500000 do
  local x = i
  local f = function() x = x + i return x end
  s = s + f() + f() - i - x + x - i
end
print(("%d"):format(s))
