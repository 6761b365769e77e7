-- jit.dump: what the compiler does, while it does it: traces that start, end and fail, the bytecode they are recorded from,
-- their IR with snapshots, their machine code, and the exits that are taken. The form is that of LuaJIT's module.

local jit = require("jit")
local util = require("jit.util")
local vmdef = require("jit.vmdef")
local line = require("jit.bc").line
local band, rshift = bit.band, bit.rshift
local format, gsub, rep, sub = string.format, string.gsub, string.rep, string.sub

-- Types of values by their numbers.
local TYPES = {
  [0] = "nil", "fal", "tru", "lud", "str", "p32", "thr", "pro", "fun", "p64", "cdt", "tab", "udt", "flt", "num", "i8 ",
  "u8 ", "i16", "u16", "int", "u32", "i64", "u64", "sfp",
}
local USERDATA, NUMBER, INT64 = 12, 14, 21

-- Parts of an entry of a snapshot beside its reference.
local FRAME = 0x10000
local NO_OPERAND, LITERAL = 3, 1

-- How the text of a value of some type is shown: as it is, in a terminal's colours, as HTML.
local COLOURS = {
  lud = 36, str = 32, thr = 1, fun = 1, cdt = 33, tab = 31, udt = 36, flt = 34, num = 34, ["i8 "] = 35, ["u8 "] = 35,
  i16 = 35, u16 = 35, int = 35, u32 = 35, i64 = 35, u64 = 35, sfp = 35,
}
local ENTITIES = { ["<"] = "&lt;", [">"] = "&gt;", ["&"] = "&amp;" }
local STYLE = [[
<style type="text/css">
pre.ljdump { font-size: 10pt; color: #000; background: #f6f6f6; border: 1px solid #ccc; padding: 0.5em; margin: 1em 2em; }
span.irt_str { color: #070; }
span.irt_thr, span.irt_fun { font-weight: bold; }
span.irt_tab { color: #b00; }
span.irt_lud, span.irt_udt { color: #088; }
span.irt_cdt { color: #860; }
span.irt_flt, span.irt_num { color: #33b; }
span.irt_i8, span.irt_u8, span.irt_i16, span.irt_u16, span.irt_int, span.irt_u32, span.irt_i64, span.irt_u64 { color: #a3a; }
</style>
]]
local painters = {
  T = function(text) return text end,
  A = function(text, ty)
    local colour = COLOURS[TYPES[ty]]
    return colour and format("\027[%dm%s\027[m", colour, text) or text
  end,
  H = function(text, ty)
    return format('<span class="irt_%s">%s</span>', gsub(TYPES[ty], " ", ""), (gsub(text, "[<>&]", ENTITIES)))
  end,
}

-- The running dump: `out`, `show` (letters), `paint`; nil while there is none.
local dump
-- Depth of the last recorded instruction, and dots for it.
local depth, dots = 0, ""
local disassembler

local function disassembly()
  disassembler = disassembler or require("jit.dis_" .. jit.arch)
  return disassembler
end

local function write(...)
  dump.out:write(...)
end

local function place(func, pc)
  local info = util.funcinfo(func, pc)
  return info.loc or info.ffid and vmdef.ffnames[info.ffid] or info.addr and format("C:%x", info.addr) or "(?)"
end

local SHORT = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(c)
  return SHORT[c] or format("\\%03d", c:byte())
end

-- Text of a constant.
local function constant(tr, ref)
  local k, ty, slot = util.tracek(tr, ref)
  local kind, text = type(k), nil
  if kind == "number" and ty < USERDATA then
    text = k == 0 and "NULL" or format("[0x%08x]", k)
  elseif kind == "number" then
    -- The smallest ones would lose digits.
    text = format(k > 0 and k < 0x1p-1026 and "%+a" or "%+.14g", k)
  elseif kind == "string" then
    text = format(#k > 20 and '"%.20s"~' or '"%s"', gsub(k, "%c", escape))
  elseif kind == "function" then
    text = place(k)
  elseif kind == "table" then
    text = format("{%p}", k)
  elseif kind == "userdata" then
    text = format(ty == USERDATA and "userdata:%p" or "[%p]", k)
  elseif ty == INT64 then
    text = gsub(tostring(k), "LL$", "")
    if sub(text, 1, 1) ~= "-" then text = "+" .. text end
  else
    text = tostring(k)
  end
  text = dump.paint(format("%-4s", text), ty)
  return slot and format("%s @%d", text, slot) or text
end

local function reference(tr, ref)
  return ref < 0 and constant(tr, ref) or format("%04d", ref)
end

-- What the bits of a literal stand for, one letter each.
local function letters(names)
  return function(n)
    local text = ""
    for i = 1, #names do
      if band(rshift(n, i - 1), 1) == 1 then text = text .. sub(names, i, i) end
    end
    return text
  end
end

local function named(names)
  return function(n) return names[n] end
end

local CHECKS = { [0] = "", " none", " index", " check" }

-- Texts of literals by operation.
local literals = {
  SLOAD = letters("PFTCRIK"),
  XLOAD = letters("RVU"),
  CONV = function(n)
    local paint = dump.paint
    local from, to = band(n, 31), band(rshift(n, 5), 31)
    local text = paint(TYPES[to], to) .. "." .. paint(TYPES[from], from)
    return text .. (band(n, 0x800) ~= 0 and " sext" or "") .. (CHECKS[rshift(n, 12)] or "")
  end,
  FLOAD = named(vmdef.irfield),
  FREF = named(vmdef.irfield),
  FPMATH = named(vmdef.irfpm),
  UREFO = function(n) return format("#%-3d", rshift(n, 8)) end,
  UREFC = function(n) return format("#%-3d", rshift(n, 8)) end,
}

local function operation(ot)
  local at = rshift(ot, 8) * 6
  return (gsub(sub(vmdef.irnames, at + 1, at + 6), " ", ""))
end

-- The arguments of a call: a chain of CARG, the first one innermost.
local function arguments(tr, ref)
  if ref >= 0 then
    local _, ot, a, b = util.traceir(tr, ref)
    if operation(ot) == "CARG" then return arguments(tr, a) .. " " .. reference(tr, b) end
  end
  return reference(tr, ref)
end

local function call(tr, a, b, by_number)
  local name
  if by_number then
    name = format("%-10s  ", vmdef.ircall[b])
  elseif b < 0 then
    name = format("[0x%x]", tonumber((util.tracek(tr, b))))
  else
    name = format("%04d ", b)
  end
  return name .. "(" .. (a == -1 and "" or arguments(tr, a)) .. ")"
end

local function operands(tr, op, m, a, b)
  local ma, mb = band(m, 3), rshift(m, 2)
  if sub(op, 1, 4) == "CALL" then return call(tr, a, b, mb == LITERAL) end
  if ma == NO_OPERAND then return "" end
  local text = ma == LITERAL and format("#%-3d", a) or reference(tr, a)
  if mb == NO_OPERAND then return text end
  if mb ~= LITERAL then return text .. "  " .. reference(tr, b) end
  local literal = literals[op]
  return text .. "  " .. (literal and literal(b) or format("#%-3d", b))
end

-- The slots of a snapshot: a reference, a constant, or nothing.
local function slots(tr, snap)
  local text, n = {}, 2
  for slot = 0, snap[1] - 1 do
    local entry = snap[n]
    if rshift(entry, 24) == slot then
      n = n + 1
      local ref = band(entry, 0xffff) - 0x8000
      local value
      if ref < 0 then
        value = constant(tr, ref)
      else
        local _, ot = util.traceir(tr, ref)
        value = dump.paint(format("%04d", ref), band(ot, 31))
      end
      text[#text + 1] = value .. (band(entry, FRAME) == 0 and " " or "|")
    else
      text[#text + 1] = "---- "
    end
  end
  return table.concat(text) .. "]\n"
end

local function snapshots(tr)
  write("---- TRACE ", tr, " snapshots\n")
  local n, snap = 0, util.tracesnap(tr, 0)
  while snap do
    write(format("#%-3d %04d [ ", n, snap[0]), slots(tr, snap))
    n = n + 1
    snap = util.tracesnap(tr, n)
  end
end

-- Where a result is.
local function register(place)
  local n = band(place, 255)
  if n == 253 or n == 254 then return "{sink" end
  return n < 128 and disassembly().regname(n) or ""
end

-- The IR; `with` snapshots between the instructions.
local function instructions(tr, with)
  local info = util.traceinfo(tr)
  if not info then return end
  write("---- TRACE ", tr, " IR\n")
  local n, snap = 0, with and util.tracesnap(tr, 0)
  local registers, gap = dump.show.r, dump.show.r and "      " or ""
  local function snaps_at(ref)
    while snap and snap[0] <= ref do
      write(format("....%s        SNAP   #%-3d [ ", gap, n), slots(tr, snap))
      n = n + 1
      snap = util.tracesnap(tr, n)
    end
  end
  for ref = 1, info.nins do
    snaps_at(ref)
    local m, ot, a, b, at = util.traceir(tr, ref)
    local op, ty = operation(ot), band(ot, 31)
    if op == "LOOP" then
      write(format("%04d %s------ LOOP ------------\n", ref, registers and "------" or ""))
    elseif op ~= "NOP" and op ~= "CARG" then
      local left = band(at, 255)
      local mark = (left == 253 or left == 254) and "}" or band(ot, 128) ~= 0 and ">" or " "
      local name = dump.paint(TYPES[ty], ty)
      local where = registers and format("%-6s", register(at)) or ""
      write(format("%04d %s%s%s %s %-6s ", ref, where, mark, band(ot, 64) ~= 0 and "+" or " ", name, op), operands(tr, op, m, a, b), "\n")
    end
  end
  snaps_at(math.huge)
end

-- Names of addresses that the code of a trace jumps to.
local function symbols(tr, exits)
  local names = {}
  for n, name in pairs(vmdef.ircall) do
    names[util.ircalladdr(n)] = name
  end
  for n = 0, exits - 1 do
    local address = util.traceexitstub(tr, n)
    if address then names[address] = tostring(n) end
  end
  return names
end

local function code(tr)
  local info = util.traceinfo(tr)
  local bytes, address, loop = util.tracemc(tr)
  if not info or not bytes then return end
  write("---- TRACE ", tr, " mcode ", #bytes, "\n")
  local ctx = disassembly().create(bytes, address, write)
  ctx.hexdump = 0
  ctx.symtab = symbols(tr, info.nexit)
  if loop ~= 0 then
    ctx.symtab[address + loop] = "LOOP"
    ctx:disass(0, loop)
    write("->LOOP:\n")
  end
  ctx:disass(loop, #bytes - loop)
end

-- Why a recording was given up.
local function reason(number, info)
  local text = vmdef.traceerr[number]
  if type(info) == "function" then info = place(info) end
  if type(info) == "number" then info = sub(vmdef.bcnames, info * 6 + 1, info * 6 + 6) end
  return format(text, info)
end

-- What an attached function of "trace" is told.
local function traced(what, tr, func, pc, other, exit)
  local show = dump.show
  if what == "stop" or what == "abort" and show.a then
    if show.i then
      instructions(tr, show.s)
    elseif show.s then
      snapshots(tr)
    end
    if show.m then code(tr) end
  end
  if what == "start" then
    if show.H then write('<pre class="ljdump">\n') end
    local from = other and format(" %d/%s", other, exit == -1 and "stitch" or exit) or ""
    write("---- TRACE ", tr, " start", from, " ", place(func, pc), "\n")
  elseif what == "stop" or what == "abort" then
    local how
    if what == "abort" then
      how = format(" %s -- %s", place(func, pc), reason(other, exit))
    else
      local info = util.traceinfo(tr)
      local link, kind = info.link, info.linktype
      how = " -> " .. ((link == tr or link == 0) and kind or kind == "root" and link or link .. " " .. kind)
    end
    write("---- TRACE ", tr, " ", what, how, "\n", show.H and "</pre>\n\n" or "\n")
  else
    write("---- TRACE ", what, "\n\n")
  end
  dump.out:flush()
end

-- What one of "record" is told: an instruction before it is recorded.
local function recorded(_, func, pc, level)
  if level ~= depth then
    depth, dots = level, rep(" .", level)
  end
  local text = pc >= 0 and line(func, pc, dots) or format("0000 %s FUNCC      \n", dots)
  if dump.show.H then text = gsub(text, "[<>&]", ENTITIES) end
  if pc <= 0 then
    write(sub(text, 1, -2), "         ; ", place(func), "\n")
  else
    write(text)
  end
  -- A comparison is one with the jump behind it.
  if pc >= 0 and band(util.funcbc(func, pc), 0xff) < 16 then write(line(func, pc + 1, dots)) end
end

local function left(tr, exit, general, floats, ...)
  write("---- TRACE ", tr, " exit ", exit, "\n")
  if not dump.show.X then return end
  -- Four values a line, each kind from the start of one.
  local saved = { ... }
  local function values(form, from, n)
    for i = 1, n do
      write(format(form, saved[from + i]), (i % 4 == 0 or i == n) and "\n" or "")
    end
  end
  values(" %016x", 0, general)
  values(" %+17.14g", general, floats)
end

local function off()
  if not dump then return end
  jit.attach(traced)
  jit.attach(recorded)
  jit.attach(left)
  local out = dump.out
  if out ~= io.stdout and out ~= io.stderr then out:close() end
  dump = nil
end

-- Starts a dump of `what`: letters, behind "+" or "-" in addition to or without those of the usual ones, and T, A or H
-- for the form. It goes to the file called `path`, else to the one that LUAJIT_DUMPFILE names, else to standard output.
local function on(what, path)
  off()
  local term = os.getenv("TERM")
  local form = (term and term:find("color") or not term and os.getenv("COLORTERM")) and "A" or "T"
  what = gsub(what or "", "[TAH]", function(c)
    form = c
    return ""
  end)
  local sign = what:match("^[+-]")
  local show = {}
  if what == "" or sign then show = { t = true, b = true, i = true, m = true } end
  for c in what:gmatch("[^+-]") do
    if not c:find("[tbirsmxXa]") then error(format("dump of '%s' is not supported", c), 2) end
    show[c] = sign ~= "-"
  end
  show[form] = true
  path = path or os.getenv("LUAJIT_DUMPFILE")
  local out = io.stdout
  if path and path ~= "-" then out = assert(io.open(path, "w")) end
  dump = { out = out, show = show, paint = painters[form] }
  if form == "H" then write(STYLE) end
  if show.t or show.b or show.i or show.s or show.m then jit.attach(traced, "trace") end
  if show.b then jit.attach(recorded, "record") end
  if show.x or show.X then jit.attach(left, "texit") end
end

return { on = on, off = off, start = on }
