-- Substrings, bytes, repetition, case and reversal, with positions of all signs.
local s = "hello"
for i = -7, 7 do
  local row = {}
  for j = -7, 7 do row[#row + 1] = ("%q"):format(s:sub(i, j)) end
  print(i, table.concat(row, " "))
end
print(s:sub(2), s:sub(-3), s:sub(2.9), s:sub("2", "3"), s:sub(0), s:sub(6), (s:sub(-100, 100)))
print(s:byte(), s:byte(-1), s:byte(10), s:byte(2, 4))
print(select("#", s:byte(1, -1)), select("#", s:byte(3, 2)), select("#", (""):byte()))
print(string.char(), string.char(72, 105), #string.char(0, 255, 10))
print(s:upper(), ("MiXeD 123 \xc4"):lower(), ("abc"):reverse(), (""):reverse())
print(s:len(), #"", ("a\0b"):len(), #"a\0b")
print(("ab"):rep(3), ("ab"):rep(0), ("ab"):rep(-1), ("ab"):rep(1), (""):rep(100), ("x"):rep(3, ","), ("x"):rep(1, ","))
print(#("x"):rep(100000), #("abc"):rep(1000, "--"))
print(string.len(12345), ("5"):rep("3"), string.upper(1e15), string.sub(123456, 2, 3))
print(("x"):rep(2.7), string.rep(0, 3))
