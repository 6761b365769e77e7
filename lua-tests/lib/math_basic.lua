-- The math library on ordinary and awkward numbers.
local function row(name, ...) local r = {} for i = 1, select("#", ...) do r[i] = ("%.14g"):format((select(i, ...))) end print(name, table.concat(r, " ")) end
local xs = {0, -0, 1, -1, 0.5, -0.5, 2, -2.5, 1e10, -1e-10, 1/0, -1/0, 0/0, 3.7, -3.7}
for _, f in ipairs{"abs", "ceil", "floor", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "exp", "sinh", "cosh", "tanh", "deg", "rad", "log", "log10"} do
  local r = {} for i, x in ipairs(xs) do r[i] = ("%.12g"):format(math[f](x)) end
  print(f, table.concat(r, " "))
end
row("fmod", math.fmod(7, 3), math.fmod(-7, 3), math.fmod(7, -3), math.fmod(5.5, 2), math.fmod(1, 0), math.fmod(1/0, 2), math.fmod(5, 1/0))
row("pow", math.pow(2, 10), math.pow(2, 0.5), math.pow(-8, 1/3), math.pow(0, 0), math.pow(0, -1), math.pow(2, -2), math.pow(1/0, 0))
row("atan2", math.atan2(1, 1), math.atan2(1, -1), math.atan2(-1, -1), math.atan2(0, -1), math.atan2(-0, -1), math.atan2(0, 0))
row("modf", math.modf(3.7)) row("modf", math.modf(-3.7)) row("modf", math.modf(5)) row("modf", math.modf(1/0)) row("modf", math.modf(-1/0)) row("modf", math.modf(-0)) row("modf", math.modf(0/0))
row("frexp", math.frexp(8)) row("frexp", math.frexp(-0.3)) row("frexp", math.frexp(0)) row("frexp", math.frexp(5e-324)) row("frexp", math.frexp(1e300))
row("ldexp", math.ldexp(0.5, 4), math.ldexp(1, -1074), math.ldexp(1, 1023), math.ldexp(1, 1024), math.ldexp(3, 0), math.ldexp(0.75, -1075), math.ldexp(1, -5000))
row("log", math.log(8, 2), math.log(100, 10), math.log(2, 8), math.log(1, 5), math.log(0, 2), math.log(27, 3))
row("max", math.max(1), math.max(1, 2, 3), math.max(3, 2, 1), math.max(-1, -2), math.max(1, 0/0), math.max(0/0, 1), math.max("10", 9))
row("min", math.min(1), math.min(1, 2, 3), math.min(3, 2, 1), math.min(-1, -2), math.min(1, 0/0), math.min(0/0, 1), math.min(1.5, "1"))
print(math.pi, math.huge, -math.huge, math.floor("3.7"), math.abs("-2"))
print(-7 % 3, 7 % -3, -7.5 % 2, 5 % math.huge, -5 % math.huge, 1 % 0, 0 % 5, -0 % 5, 5.5 % 1, 1e15 % 7, 2^53 % 3)
print(2 ^ 10, 2 ^ 0.5, (-2) ^ 3, -2 ^ 2, 2 ^ -1, 0 ^ 0, 1 / 0, -1 / 0, 0 / 0 ~= 0 / 0, 7 / 2)
