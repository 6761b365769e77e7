-- Every kind of pattern item.
local function m(s, p) print(("%-18q %-14q"):format(s, p), s:match(p)) end
for c in ("acdglpsuwxzACDGLPSUWXZ"):gmatch(".") do
  local n, first, last = 0
  for i = 0, 255 do
    if string.char(i):find("%" .. c) then n = n + 1 first = first or i last = i end
  end
  print("%" .. c, n, first, last)
end
m("hello", "l*") m("hello", "l+") m("hello", "hel-o") m("hello", "xl?") m("hello", "lx?l")
m("  trim  ", "^%s*(.-)%s*$") m("k = v", "(%w+)%s*=%s*(%w+)") m("2024-01-31", "(%d+)-(%d+)-(%d+)")
m("f(a(b)c)d", "%b()") m("((x)", "%b()") m("[[x]]", "%b[]") m("abcba", "%bac")
m("THE (quick) fox", "%f[%a]%a+") m("foo.bar", "%f[%w]%w+$") m("x", "%f[%z]") m("", "%f[%z]")
m("say 'hi'", "(['\"])(.-)%1") m("abab", "(ab)%1") m("abc", "()") m("abc", "b()") m("abc", "(a)(b)(c)")
m("]", "[]]") m("^", "[%^]") m("a^", "[a^]+") m("-", "[a-]") m("x-y", "[x%-y]+") m("[", "[[]") m("a]", "[^]]")
m("b", "[a-c]") m("-", "[+--]") m("5", "[0-9a-f]") m("é", "[é]") m("\0a", "[%z]a") m("%", "%%")
m("a.b", "a%.b") m("a\nb", "a.b") m("$1", "$1") m("a$", "a$$") m("a", "a$") m("x*", "x%*") m("(x)", "%((.)%)")
m("aaa", "a-$") m("aaa", "^(a-)(a*)$") m("", ".-") m("", "") m("abc", "") m("aXbX", "(.-)X") m("ab", "((a)(b))")
print(("x=1,y=2"):match("y=(%d)"), ("x"):match("x", 2), ("xx"):match("x", -1), ("abc"):match("^b", 2), ("abc"):match(".", "3"))
print(("a,b,,c"):match("^([^,]*),([^,]*),([^,]*),(.*)$"))
