-- What lua-resty-openssl makes of known input, one result per line: name, tab, result. The folder for files is the argument.
local dir = ...
local function hex(s) return (s:gsub(".", function(c) return ("%02x"):format(c:byte()) end)) end
local function out(name, ...)
  local t = {}
  for i = 1, select("#", ...) do t[i] = tostring((select(i, ...))) end
  print(name .. "\t" .. table.concat(t, " "))
end
local function write(name, s) local f = assert(io.open(dir .. "/" .. name, "wb")) f:write(s) f:close() end
local function read(name) local f = assert(io.open(dir .. "/" .. name, "rb")) local s = f:read("*a") f:close() return s end

local data = read("data")
for _, name in ipairs { "md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3-256", "blake2b512" } do
  local d = assert(require("resty.openssl.digest").new(name))
  -- In pieces, so that a hot loop calls the library.
  for i = 1, #data, 7 do assert(d:update(data:sub(i, i + 6))) end
  out("dgst " .. name, hex(assert(d:final())))
end
for _, name in ipairs { "md5", "sha1", "sha256", "sha512" } do
  local h = assert(require("resty.openssl.hmac").new("a key", name))
  for i = 1, #data, 11 do assert(h:update(data:sub(i, i + 10))) end
  out("hmac " .. name, hex(assert(h:final())))
end
local cipher = require "resty.openssl.cipher"
for _, bits in ipairs { 128, 192, 256 } do
  for _, mode in ipairs { "cbc", "ecb", "ctr", "cfb", "ofb" } do
    local name = "aes-" .. bits .. "-" .. mode
    local key, iv = ("k"):rep(bits / 8), ("i"):rep(mode == "ecb" and 0 or 16)
    local c = assert(cipher.new(name))
    local secret = assert(c:encrypt(key, iv, data))
    assert(c:decrypt(key, iv, secret) == data)
    out("enc " .. name, hex(secret))
  end
end
do
  local c = assert(cipher.new("aes-256-gcm"))
  local key, iv = ("k"):rep(32), ("i"):rep(12)
  local secret = assert(c:encrypt(key, iv, data, false, "aad"))
  local tag = assert(c:get_aead_tag())
  out("gcm", c:decrypt(key, iv, secret, false, "aad", tag) == data, (c:decrypt(key, iv, secret, false, "bad", tag)) == nil, #tag)
end
local rand = require "resty.openssl.rand"
out("rand", #rand.bytes(33), rand.bytes(16) ~= rand.bytes(16))
local kdf = require "resty.openssl.kdf"
out("kdf", hex(assert(kdf.derive { type = kdf.PBKDF2, outlen = 24, pass = "secret", salt = "salt", md = "sha256", pbkdf2_iter = 1000 })))

-- Keys: signatures of ours for the command to verify, and of the command's for us.
local pkey = require "resty.openssl.pkey"
for name, how in pairs { rsa = { type = "RSA", bits = 2048 }, ec = { type = "EC", curve = "prime256v1" } } do
  local k = assert(pkey.new(how))
  write(name .. ".pub", assert(k:to_PEM("public")))
  write(name .. ".sig", assert(k:sign(data, "sha256")))
  local theirs = assert(pkey.new(read(name .. ".theirs.pub")))
  out("verify " .. name, theirs:verify(read(name .. ".theirs.sig"), data, "sha256"), (theirs:verify("no signature", data, "sha256")))
end

-- A certificate of the command's, and one of ours for it.
local x509 = require "resty.openssl.x509"
do
  local c = assert(x509.new(read("theirs.crt")))
  out("serial", assert(c:get_serial_number()):to_hex():upper())
  out("subject", assert(c:get_subject_name()):find("CN").blob, assert(c:get_subject_name()):find("O").blob)
  out("fingerprint", hex(assert(c:digest("sha256"))))
  out("dates", c:get_not_before(), c:get_not_after())
end
do
  local key = assert(pkey.new { type = "EC", curve = "prime256v1" })
  local c = assert(x509.new())
  assert(c:set_pubkey(key))
  assert(c:set_version(3))
  assert(c:set_serial_number(require("resty.openssl.bn").from_hex("123456789abcdef0")))
  assert(c:set_not_before(os.time() - 60))
  assert(c:set_not_after(os.time() + 86400))
  local name = assert(require("resty.openssl.x509.name").new():add("O", "Moonlit"):add("CN", "ours.example"))
  assert(c:set_subject_name(name))
  assert(c:set_issuer_name(name))
  assert(c:set_basic_constraints { CA = true })
  assert(c:sign(key))
  write("ours.crt", assert(c:to_PEM()))
end
