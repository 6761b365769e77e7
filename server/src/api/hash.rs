//! Digests and checksums.

use md5::Digest;
use moonlit_vm::host::native::{Entry, NativeResult, Outcome, Value, Vm};

use super::ApiFn;
use crate::lua::args::{expect_args, string};
use crate::phase::Phases;

/// The functions.
pub const FNS: &[ApiFn] = &[
    ApiFn::plain("ngx.md5", Phases::ANY, md5_hex),
    ApiFn::plain("ngx.md5_bin", Phases::ANY, md5_bin),
    ApiFn::plain("ngx.sha1_bin", Phases::ANY, sha1_bin),
    ApiFn::plain("ngx.hmac_sha1", Phases::ANY, hmac_sha1),
    ApiFn::plain("ngx.crc32_short", Phases::ANY, crc32),
    ApiFn::plain("ngx.crc32_long", Phases::ANY, crc32),
];

fn text(vm: &mut Vm, i: usize) -> Vec<u8> {
    let v = vm.arg(i);
    if v.is_nil() { Vec::new() } else { vm.raw_text(v) }
}

/// `ngx.md5(text)`: 32 hexadecimal digits.
fn md5_hex(vm: &mut Vm, _: Entry) -> NativeResult {
    let digest = md5::Md5::digest(text(vm, 0));
    let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    Ok(Outcome::one(string(vm, hex)))
}

/// `ngx.md5_bin(text)`: 16 bytes.
fn md5_bin(vm: &mut Vm, _: Entry) -> NativeResult {
    let digest = md5::Md5::digest(text(vm, 0));
    Ok(Outcome::one(string(vm, &digest[..])))
}

/// `ngx.sha1_bin(text)`: 20 bytes.
fn sha1_bin(vm: &mut Vm, _: Entry) -> NativeResult {
    let digest = sha1::Sha1::digest(text(vm, 0));
    Ok(Outcome::one(string(vm, &digest[..])))
}

/// `ngx.hmac_sha1(key, text)`: 20 bytes.
fn hmac_sha1(vm: &mut Vm, _: Entry) -> NativeResult {
    const BLOCK_BYTES: usize = 64;
    expect_args(vm, 2..=2, "expecting 2 arguments, but got #")?;
    let mut key = vm.check_str(0)?.bytes(&vm.heap).to_vec();
    let data = vm.check_str(1)?.bytes(&vm.heap).to_vec();
    if key.len() > BLOCK_BYTES {
        key = sha1::Sha1::digest(&key).to_vec();
    }
    key.resize(BLOCK_BYTES, 0);
    let pad = |x: u8| key.iter().map(|b| b ^ x).collect::<Vec<u8>>();
    let inner = sha1::Sha1::new().chain_update(pad(0x36)).chain_update(&data).finalize();
    let outer = sha1::Sha1::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    Ok(Outcome::one(string(vm, &outer[..])))
}

/// `ngx.crc32_short(text)` and `ngx.crc32_long(text)`: the same value.
fn crc32(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = crc32fast::hash(&text(vm, 0));
    Ok(Outcome::one(Value::num(f64::from(n))))
}
