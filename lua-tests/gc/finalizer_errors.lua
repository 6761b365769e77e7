-- Errors in finalizers: whoever attached itself to `errfin` is told, and nothing is printed.
local seen = {}
local function told(e) seen[#seen + 1] = tostring(e) end
jit.attach(told, "errfin")
local function fail(value)
  local u = newproxy(true)
  getmetatable(u).__gc = function() error(value, 0) end
end
fail("first")
fail({})
collectgarbage() collectgarbage()
table.sort(seen)
print(#seen, seen[1], (tostring(seen[2]):gsub("0x%x+", "ADDR")))
-- A new one takes its place.
local other = {}
jit.attach(function(e) other[#other + 1] = e end, "errfin")
fail("second")
collectgarbage() collectgarbage()
print(#seen, #other, other[1])
print(pcall(jit.attach, told, "errfix"))
