-- Loops: what bounds may be, directions, steps, accumulation, copies of the counter, the generic form's protocol.
local function try(f, ...) print(pcall(f, ...)) end
local function run(a, b, c) local t = {} for i = a, b, c do t[#t + 1] = ("%.14g"):format(i) if #t > 12 then t[#t + 1] = "..." break end end return table.concat(t, " ") end
local function run2(a, b) local t = {} for i = a, b do t[#t + 1] = ("%.14g"):format(i) if #t > 12 then t[#t + 1] = "..." break end end return table.concat(t, " ") end
print(run2(1, 3), "|", run2(3, 1), "|", run2(1, 1), "|", run2(1.5, 4), "|", run2(-2, 2), "|", run2(1, 2.9), "|", run2(0, -1))
print(run(1, 10, 3), "|", run(10, 1, -3), "|", run(1, 3, -1), "|", run(3, 1, 1), "|", run(1, 2, 0.25), "|", run(0, 1, 0.1), "|", run(1, 0, -0.1), "|", run(1, 3, 0), "|", run(3, 1, 0), "|", run(1, 1, 0))
print(run(1, math.huge, 1), "|", run(1, -math.huge, -1), "|", run(math.huge, 1, 1), "|", run(-math.huge, 1, 1), "|", run(1, 2, math.huge), "|", run(1, math.huge, math.huge), "|", run(0/0, 1, 1), "|", run(1, 0/0, 1), "|", run(1, 2, 0/0), "|", run(2, 1, -math.huge))
print(run(2147483646, 2147483649, 1), "|", run(-2147483647, -2147483650, -1), "|", run(2^53 - 1, 2^53 + 4, 1), "|", run(2^31 - 1, 2^31 - 1, 1), "|", run(-2^31, -2^31, -1), "|", run(2147483640, 2147483647, 5), "|", run(-0, 0, 1), "|", run(1e308, math.huge, 1e308), "|", run(0, 1e-323, 5e-324))
for _, v in ipairs{"1", "x", {}, true, false, print} do try(run, v, 2, 1) try(run, 1, v, 1) try(run, 1, 2, v) end
try(run2, nil, 1) try(run2, 1, nil) try(run2, nil, nil) try(run, 1, 2, nil) try(function() for i = 1, 2, nil do end end) try(function() for i = nil, 2 do end end) try(function() for i = 1, "2" do end end) try(function() for i = 1, 2, "1" do end end) try(function() for i = setmetatable({}, {__tonumber = 1}), 2 do end end) try(function() for i = "a", "b", "c" do end end) try(function() for i = 1, "b", "c" do end end)
-- A line of its own for each part: where the error is said to be.
try(function()
  for i =
    1,
    {}
  do
  end
end)
-- The counter is a copy.
for i = 1, 3 do local j = i i = i * 10 io.write(j, "-", i, " ") end print()
do local fs = {} for i = 1, 3 do fs[i] = function() i = i + 1 return i end end print(fs[1](), fs[1](), fs[2](), fs[3]()) end
do local n = 3 for i = 1, n do n = 10 io.write(i, " ") end print(n) end
do local order = {} local function o(v) order[#order + 1] = v return v end for i = o(1), o(2), o(1) do end print(table.concat(order, " ")) end
-- The generic form.
local function it(s, c) if c < s then return c + 1, c * c end end
for a, b, c in it, 3, 0 do io.write(a, " ", b, " ", tostring(c), "; ") end print()
for a in function() return false end do io.write("false once ") break end print()
do local c = 0 for a in function(s, k) c = c + 1 io.write(tostring(s), ":", tostring(k), " ") if c < 3 then return c end end do end print() end
for k in setmetatable({}, {__call = function(self, s, c) c = (c or 0) + 1 if c <= s then return c end end}), 3 do io.write(k, " ") end print()
for k, v in next, {10, 20} do io.write(k, "=", v, " ") end print()
for k, v in next, {10, 20}, 1 do io.write(k, "=", v, " ") end print()
for i, v in ipairs{1, 2, nil, 4} do io.write(i, " ") end print()
for w, x in ("a=1,b=2"):gmatch("(%w)=(%w)") do io.write(w, x, " ") end print()
for a, b, c, d in coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i, i * 2, i * 3) end end) do io.write(a, b, c, tostring(d), " ") end print()
do local fs = {} for k, v in pairs{5, 6} do fs[k] = function() v = v + k return v end end print(fs[1](), fs[1](), fs[2]()) end
for k in pairs{1, 2, 3} do k = k * 2 io.write(k, " ") end print()
try(function() for a in 5 do end end) try(function() for a in nil do end end) try(function() for a in {} do end end) try(function() for a in "x" do end end) try(function() local x for a in x do end end) try(function() for a in undefinedname do end end) try(function() for a in _G.nope do end end) try(function() for a in pairs(nil) do end end) try(function() for a in pairs() do end end) try(function() for a in ipairs(nil) do end end) try(function() for a in ipairs() do end end) try(function() for a in next do end end) try(function() for a in next, {}, "nokey" do end end) try(function() for a in error, "m" do end end) try(function() for a in error, "m", 0 do end end) try(function() for a in function() error("x") end do end end) try(function() for a in pairs{} , 1, 2 do end end) try(function() for a in setmetatable({}, {}) do end end)
for _, s in ipairs{"for a.b = 1, 2 do end", "for a in 1, 2, 3, 4 do end", "for a, b = 1, 2 do end", "for a, in b do end", "for (a) in b do end", "for a = 1 do end", "for a = 1, 2, 3, 4 do end", "for a = 1, do end", "for a = , 2 do end", "for a in do end", "for in b do end", "for a", "for a b", "for a,b c", "for ... in b do end", "for a = 1, 2 ; do end", "for a of b do end", "for a = 1, 2 \n\n\n x", "for a in b do\n\n"} do print((s:gsub("\n", "\\n")), (select(2, load(s, "=c")))) end
