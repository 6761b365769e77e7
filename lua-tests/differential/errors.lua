-- Errors of small random programs: messages with variable names, positions, tracebacks; random tokens for the parser.
local R = require "rng"
local function operand()
  return R.pick { "a", "b", "t", "t.x", "t.x.y", "t[a]", "t[1]", "nil", "{}", "'s'", "1", "up", "glob", "f", "f()", "t:m()", "(a)", "up.x", "glob.x.y",
    "t['x y']", "a.b.c", "true", "...", "#t", "-a", "f(a)", "('x').y", "print", "t.f", "t.f()" }
end
local function statement()
  local x, y = operand(), operand()
  local k = R.below(16)
  if k == 0 then return "local v = " .. x .. " + " .. y end
  if k == 1 then return "local v = " .. x .. " .. " .. y end
  if k == 2 then return "return " .. x .. " < " .. y end
  if k == 3 then return "local v = #" .. x end
  if k == 4 then return "local v = -" .. x end
  if k == 5 then return "local v = (" .. x .. ").q.r" end
  if k == 6 then return "local v = (" .. x .. ")()" end
  if k == 7 then return "local v = (" .. x .. "):method(" .. y .. ")" end
  if k == 8 then return "t.x.z = " .. y end
  if k == 9 then return "up.field = " .. y end
  if k == 10 then return "for i = " .. x .. ", " .. y .. " do end" end
  if k == 11 then return "for k, v in " .. x .. " do end" end
  if k == 12 then return "t[" .. x .. "] = " .. y end
  if k == 13 then return "local v = " .. x .. " & " .. y end
  if k == 14 then return "string.rep(" .. x .. ", " .. y .. ")" end
  return "local v = " .. x .. " ^ 2 == " .. y .. " / 3"
end
glob = nil
local up
local function m() return up end
for i = 1, 3000 do
  local lines = { "local a, b, t, f, up = ..." }
  for j = 1, 1 + R.below(3) do lines[#lines + 1] = statement() end
  local code = table.concat(lines, "\n")
  local fn, err = loadstring(code, R.pick { "=code", "@file.lua", code })
  if not fn then
    print(code, err)
  else
    local args = { R.pick { nil, 1, "s", {} }, R.pick { nil, 2, true }, R.pick { {}, { x = {} }, { x = 1 }, setmetatable({}, { __index = function(t, k) error("index " .. tostring(k)) end }) }, R.pick { print, nil, m, 5 } }
    local function handler(e)
      local where = debug.traceback("", 2):gsub("0x%x+", "ADDR"):gsub("builtin#%d+", "builtin"):match("^(.-)\n[^\n]*xpcall") or "?"
      return tostring(e):gsub("0x%x+", "ADDR") .. where
    end
    local r = { xpcall(fn, handler, args[1], args[2], args[3], args[4], up) }
    print((code:gsub("\n", "; ")), tostring(r[1]), r[1] and "" or tostring(r[2]))
  end
end
local tokens = { "local", "function", "end", "if", "then", "else", "elseif", "while", "do", "repeat", "until", "for", "in", "return", "break",
  "goto", "nil", "true", "false", "and", "or", "not", "a", "b", "x.y", "1", "'s'", "[[l]]", "(", ")", "{", "}", "[", "]", "=", ",", ";", ":", "::",
  "::a::", "..", "...", "+", "-", "*", "/", "%", "^", "#", "==", "~=", "<", ">", "<=", ">=", ".", "\n", "const", "continue", "+=", "->", "?", "??",
  "|", "&", "~", "<<", "!", "'open", "[[open", "--c\n", "--[[c", "0x", "1..2", "@", "$", "\\", "\1", "goto a", "a:b", "a()", "function()", "=" }
for i = 1, 8000 do
  local t = {}
  for j = 1, 1 + R.below(9) do t[j] = R.pick(tokens) end
  local code = table.concat(t, " ")
  local f, e = loadstring(code, "=t")
  print((code:gsub("%c", "~")), f and "ok" or e)
end
