-- string.gmatch: captures, empty matches, anchors, nested use.
for w in ("one two  three"):gmatch("%a+") do io.write(w, ";") end print()
for k, v in ("a=1, b=2, c=3"):gmatch("(%w+)=(%w+)") do io.write(k, v, ";") end print()
for p in ("abc"):gmatch("()") do io.write(p, ";") end print()
for e in ("abc"):gmatch("x*") do io.write("[", e, "]") end print()
for e in ("aXbX"):gmatch("(.-)X") do io.write("[", e, "]") end print()
for c in ("^a^b"):gmatch("^a") do io.write("[", c, "]") end print()
for a in ("k1=v1;k2=v2"):gmatch("[^;]+") do
  for k, v in a:gmatch("(.+)=(.+)") do io.write(k, "->", v, " ") end
end
print()
local it = ("ab"):gmatch(".")
print(it(), it(), it(), it())
for line in ("a\nb\n\nc"):gmatch("([^\n]*)\n?") do io.write("<", line, ">") end print()
print(select("#", ("x"):gmatch("x")()), (""):gmatch("")(), (""):gmatch("a")())
