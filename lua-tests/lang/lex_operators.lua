-- Operators: how tightly each binds, which way it groups, against the groupings written out.
local v = {2, 3, 5, 7}
local ops = {"or", "and", "<", ">", "<=", ">=", "~=", "==", "..", "+", "-", "*", "/", "%", "^", "??", "|", "~", "&", "<<", ">>", "~>>", "&&", "||", "!="}
local function eval(s) local f, e = load("return " .. s, "=c") if not f then return e end local ok, r = pcall(f) return ok and tostring(r) or (r:gsub("^.-: ", "")) end
for _, a in ipairs(ops) do for _, b in ipairs(ops) do
  local flat = eval("2 " .. a .. " 3 " .. b .. " 5")
  local left, right = eval("(2 " .. a .. " 3) " .. b .. " 5"), eval("2 " .. a .. " (3 " .. b .. " 5)")
  print(a, b, flat, flat == left, flat == right)
end end
for _, u in ipairs{"-", "not ", "~", "!", "#"} do for _, b in ipairs(ops) do
  print(u, b, eval(u .. "2 " .. b .. " 3"), eval("2 " .. b .. " " .. u .. "3"), eval(u .. "'4' " .. b .. " 3"))
end end
print(-2^2, 2^-1, 2^-2^2, -2^-2, not nil == true, not (1 == 2), 2^3^2, 1 .. 2 .. 3, -"2"^2, - -2, not not nil, -(-2)^2, 2 * -3, 2 - -3, #"abc" + 1, -#"abc", "a" .. 1 + 2, 1 + 2 .. "a", 1 < 2 == true, "a" < "b" == not false)
for _, s in ipairs{"1 // 2", "a // b", "1 +* 2", "1 +", "+1", "+ 1", "1 + + 1", "* 1", "not", "-", "1 === 2", "1 =! 2", "1 <> 2", "1 >>> 2", "1 ~ = 2", "1 not 2", "a ? b", "a ? b :", "a ? : b", "a : b", "? a", "a ?? ", "a ?", "1 ** 2", "a++", "a ^= 1", "1 .. .. 2", "a && ", "a |", "~", "a ~", "a ! b", "a != ", "! ", "x -> ", "-> 1", "|x| ", "|x -> 1", "|x,| -> 1", "|x| -> ", "x ->", "(x) -> 1", "|1| -> 1", "|...,x| -> 1", "1 ?. 2", "a ?. b", "a?.", "a?.1", "a?.:", "a?.:b", "a:b?.", "a:b?.c", "a?[1]", "a?(1)", "a ?. [1]", "a?.(1", "a?.[1", "x -> do", "x -> do return 1 end end"} do print(s, (select(2, load("x = " .. s, "=c")))) end
