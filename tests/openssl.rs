//! lua-resty-openssl, unmodified, against the installed libcrypto: what it gives must be what the `openssl` command gives.
//!
//! The library comes from the `lualib` folder that `MOONLIT_LUALIB` names. What is missing is skipped aloud.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("moonlit-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder can be written");
        Folder(path)
    }

    /// Runs `openssl` there; its output.
    fn openssl(&self, args: &[&str]) -> Vec<u8> {
        let out = Command::new("openssl")
            .args(args)
            .current_dir(&self.0)
            .output()
            .expect("openssl was there before");
        assert!(out.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    fn text(&self, args: &[&str]) -> String {
        String::from_utf8_lossy(&self.openssl(args)).trim().to_owned()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn repeated(byte: u8, n: usize) -> String {
    hex(&vec![byte; n])
}

/// The folder with the library, if there are it and the command.
fn lualib() -> Option<String> {
    let root = std::env::var("MOONLIT_LUALIB").unwrap_or_else(|_| "/usr/local/openresty/lualib".to_owned());
    if !Path::new(&format!("{root}/resty/openssl/digest.lua")).is_file() {
        eprintln!("SKIPPED: lua-resty-openssl is not installed (MOONLIT_LUALIB names a folder that has it)");
        return None;
    }
    let version = Command::new("openssl").arg("version").output().ok().filter(|o| o.status.success());
    if version.is_none() {
        eprintln!("SKIPPED: the openssl command is not installed");
        return None;
    }
    Some(root)
}

/// Runs the program with the library; its lines.
fn uses(lualib: &str, dir: &Folder, options: &[&str]) -> Vec<(String, String)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openssl/uses.lua");
    let out = Command::new(env!("CARGO_BIN_EXE_moonlit"))
        .args(options)
        .arg(script)
        .arg(&dir.0)
        .env("LUA_PATH", format!("{lualib}/?.lua;{lualib}/?/init.lua;;"))
        .output()
        .expect("moonlit runs");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
    text.lines().filter_map(|l| l.split_once('\t')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

/// What the command says to a line of the program.
fn expected(dir: &Folder, name: &str) -> String {
    match name.split_once(' ') {
        Some(("dgst", md)) => hex(&dir.openssl(&["dgst", &format!("-{md}"), "-binary", "data"])),
        Some(("hmac", md)) => {
            hex(&dir.openssl(&["dgst", &format!("-{md}"), "-hmac", "a key", "-binary", "data"]))
        }
        Some(("enc", cipher)) => {
            let bits: usize = cipher.split('-').nth(1).and_then(|b| b.parse().ok()).expect("a key length");
            let (key, iv) = (repeated(b'k', bits / 8), repeated(b'i', 16));
            let mut args = vec!["enc", "-in", "data", "-K", &key];
            let option = format!("-{cipher}");
            args.push(&option);
            if !cipher.ends_with("ecb") {
                args.extend(["-iv", &iv]);
            }
            hex(&dir.openssl(&args))
        }
        Some(("verify", _)) => "true false".to_owned(),
        _ => match name {
            "gcm" => "true true 16".to_owned(),
            "rand" => "33 true".to_owned(),
            "kdf" => {
                let options = ["digest:SHA256", "pass:secret", "salt:salt", "iter:1000"];
                let mut args = vec!["kdf", "-keylen", "24"];
                for o in &options {
                    args.extend(["-kdfopt", o]);
                }
                args.push("PBKDF2");
                dir.text(&args).replace(':', "").to_lowercase()
            }
            "serial" => dir.text(&["x509", "-in", "theirs.crt", "-noout", "-serial"]).replace("serial=", ""),
            "subject" => "theirs.example Somebody".to_owned(),
            "fingerprint" => {
                let text = dir.text(&["x509", "-in", "theirs.crt", "-noout", "-fingerprint", "-sha256"]);
                text.rsplit('=').next().unwrap_or_default().replace(':', "").to_lowercase()
            }
            // 2030-01-02 03:04:05 and 2040-05-06 07:08:09, UTC.
            "dates" => "1893553445 2219900889".to_owned(),
            other => panic!("unknown result {other}"),
        },
    }
}

#[test]
fn digests_ciphers_keys_and_certificates_are_what_the_openssl_command_makes_of_them() {
    let Some(lualib) = lualib() else { return };
    let dir = Folder::new("openssl");
    let data: Vec<u8> = (0..2500u32).map(|i| (i * 7 + i / 251) as u8).collect();
    std::fs::write(dir.0.join("data"), &data).expect("the folder can be written");
    for (name, how) in [("rsa", "rsa_keygen_bits:2048"), ("ec", "ec_paramgen_curve:P-256")] {
        let (key, public) = (format!("{name}.key"), format!("{name}.theirs.pub"));
        dir.openssl(&["genpkey", "-algorithm", &name.to_uppercase(), "-pkeyopt", how, "-out", &key]);
        dir.openssl(&["pkey", "-in", &key, "-pubout", "-out", &public]);
        dir.openssl(&["dgst", "-sha256", "-sign", &key, "-out", &format!("{name}.theirs.sig"), "data"]);
    }
    dir.openssl(&[
        "req",
        "-new",
        "-key",
        "rsa.key",
        "-subj",
        "/O=Somebody/CN=theirs.example",
        "-out",
        "theirs.csr",
    ]);
    std::fs::write(dir.0.join("index"), "").expect("the folder can be written");
    std::fs::write(
        dir.0.join("ca.conf"),
        "[ca]\ndefault_ca = d\n[d]\ndatabase = index\nnew_certs_dir = .\ndefault_md = sha256\nrand_serial = yes\npolicy = p\n\
         [p]\ncommonName = supplied\norganizationName = optional\n",
    )
    .expect("the folder can be written");
    dir.openssl(&[
        "ca",
        "-batch",
        "-config",
        "ca.conf",
        "-selfsign",
        "-keyfile",
        "rsa.key",
        "-in",
        "theirs.csr",
        "-out",
        "theirs.crt",
        "-notext",
        "-startdate",
        "20300102030405Z",
        "-enddate",
        "20400506070809Z",
    ]);
    for options in [&[][..], &["-joff"], &["-Ohotloop=1"]] {
        let lines = uses(&lualib, &dir, options);
        assert_eq!(lines.len(), 8 + 4 + 15 + 3 + 2 + 4, "{lines:?}");
        for (name, got) in &lines {
            assert_eq!(*got, expected(&dir, name), "{name} with {options:?}");
        }
        for name in ["rsa", "ec"] {
            let (public, signature) = (format!("{name}.pub"), format!("{name}.sig"));
            let verified =
                dir.text(&["dgst", "-sha256", "-verify", &public, "-signature", &signature, "data"]);
            assert_eq!(verified, "Verified OK", "{name}");
        }
        assert_eq!(dir.text(&["verify", "-CAfile", "ours.crt", "ours.crt"]), "ours.crt: OK");
        assert_eq!(dir.text(&["x509", "-in", "ours.crt", "-noout", "-serial"]), "serial=123456789ABCDEF0");
        let subject = dir.text(&["x509", "-in", "ours.crt", "-noout", "-subject", "-nameopt", "RFC2253"]);
        assert_eq!(subject, "subject=CN=ours.example,O=Moonlit");
    }
}
