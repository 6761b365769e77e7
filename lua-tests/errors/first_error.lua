-- The first error of a chunk is reported, be it one of syntax or a limit.
local function check(code) print((select(2, loadstring(code, "=t")))) end
local function many(n, f) local t = {} for i = 1, n do t[i] = f(i) end return table.concat(t, " ") end
local locals = many(201, function(i) return "local a" .. i end)
check(locals .. " x = = 1")
check("x = = 1 " .. locals)
check("do " .. locals .. " end if then")
check("function f() " .. locals .. " end x +")
check("local f = function() if a then " .. locals .. " repeat x + until y end")
check("::a:: ::a:: + 1")
check("do ::a:: x = 1 ::a:: end )")
check("while 1 do ::b:: ::b:: y")
check("goto nowhere x +")
check("function f() goto nowhere end x +")
check("do goto a local y ::a:: y = 1 end x +")
check("do goto a local y ::a:: x +")
check("const c = 1 c = 2 x +")
check("const c = 1 x + c = 2")
check("repeat local x = 1 ::d:: ::d:: until")
check("for i = 1, 2 do " .. locals .. " end end")
-- Safe navigation and parallel assignment do not go together.
for _, code in ipairs { "a?.b, c = 1, 2", "c, a?.b = 1, 2", "a.b?.c.d, e = 1, 2", "a?.f().x, y = 1", "(a?.b).c, d = 1", "a[b?.c], d = 1, 2",
  "a?.b = 1", "a?.b += 1", "continue;", "while x do continue; end", "while x do continue end", "goto goto", "const goto = 1", "local goto = 1 goto = 2",
  "+= 1", "a ..= ", "a ~>>= )", "return .0xe+", "return .0xp+" } do
  check(code)
end
