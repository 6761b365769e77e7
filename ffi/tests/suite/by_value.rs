//! Structs by value travel as the C compiler passes them: random structs go through functions that `cc` compiled.

use super::lua::Machine;
use std::fmt::Write as _;
use std::process::Command;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % n
    }
}

const SCALARS: &[&str] = &[
    "char",
    "short",
    "int",
    "long long",
    "float",
    "double",
    "unsigned char",
    "void *",
    "float",
    "double",
    "bool",
];

/// One struct: declaration and the paths of its scalars.
fn generate(r: &mut Random, index: usize, leaves: &mut Vec<Vec<(String, &'static str)>>) -> String {
    let mut text = format!("struct v{index} {{ ");
    let mut paths = Vec::new();
    for m in 0..1 + r.below(5) {
        let ty = SCALARS[r.below(SCALARS.len())];
        match r.below(8) {
            0 => {
                let n = 1 + r.below(3);
                write!(text, "{ty} m{m}[{n}]; ").expect("string");
                paths.extend((0..n).map(|i| (format!("m{m}[{i}]"), ty)));
            }
            1 if index > 0 => {
                let inner = r.below(index);
                write!(text, "struct v{inner} m{m}; ").expect("string");
                let nested: Vec<_> = leaves[inner].iter().map(|(p, t)| (format!("m{m}.{p}"), *t)).collect();
                paths.extend(nested);
            }
            2 => {
                let other = SCALARS[r.below(SCALARS.len())];
                write!(text, "union {{ {ty} m{m}; {other} n{m}; }}; ").expect("string");
                paths.push((format!("m{m}"), ty));
            }
            _ => {
                write!(text, "{ty} m{m}; ").expect("string");
                paths.push((format!("m{m}"), ty));
            }
        }
    }
    leaves.push(paths);
    text.push_str("};\n");
    text
}

#[test]
fn random_structs_come_back_from_c_as_they_went() {
    let mut r = Random(0x51_7c_c1_b7_27_22_0a_95);
    let mut leaves = Vec::new();
    let count = 120;
    let (mut types, mut functions, mut prototypes) = (String::new(), String::new(), String::new());
    for i in 0..count {
        types.push_str(&generate(&mut r, i, &mut leaves));
        let signature = format!("struct v{i} first{i}(struct v{i} s, int a)");
        writeln!(prototypes, "{signature};").expect("string");
        writeln!(functions, "{signature} {{ return s; }}").expect("string");
        // The registers run out in the middle.
        let signature = format!(
            "struct v{i} last{i}(int a, double b, long c, float d, int e, double f, int g, double h, int j, double k, \
             double l, double m, struct v{i} s, int n)"
        );
        writeln!(prototypes, "{signature};").expect("string");
        writeln!(functions, "{signature} {{ if (a + b + c + d + e + f + g + h + j + k + l + m + n != 91) __builtin_trap(); return s; }}")
            .expect("string");
    }
    let dir = std::env::temp_dir().join(format!("moonlit-byvalue-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary directory");
    let (c, so) = (dir.join("v.c"), dir.join("v.so"));
    std::fs::write(&c, format!("#include <stdbool.h>\n{types}{functions}")).expect("a temporary file");
    let built = Command::new("cc").args(["-w", "-O1", "-shared", "-fPIC", "-o"]).arg(&so).arg(&c).status();
    let Ok(status) = built else {
        eprintln!("skipped: no C compiler");
        return;
    };
    assert!(status.success(), "cc refused {}", c.display());

    let mut program = format!(
        "ffi.cdef [[{types}{prototypes}]]\nlocal lib = ffi.load('{}')\nlocal bad = {{}}\n",
        so.display()
    );
    for (i, paths) in leaves.iter().enumerate() {
        writeln!(program, "do local s, t = ffi.new('struct v{i}')").expect("string");
        for (n, (path, ty)) in paths.iter().enumerate() {
            let value = match *ty {
                "bool" => "true".to_owned(),
                "void *" => format!("ffi.cast('void *', {})", 4096 + n),
                "float" | "double" => format!("{}.5", n + 1),
                _ => format!("{}", n + 1),
            };
            writeln!(program, "s.{path} = {value}").expect("string");
        }
        for call in [
            format!("lib.first{i}(s, 1)"),
            format!("lib.last{i}(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, s, 13)"),
        ] {
            writeln!(program, "t = {call}").expect("string");
            for (path, _) in paths {
                writeln!(program, "if s.{path} ~= t.{path} then bad[#bad + 1] = '{i}.{path}' end")
                    .expect("string");
            }
        }
        program.push_str("end\n");
    }
    program.push_str("return #bad, bad[1], bad[2], bad[3]");
    let result = Machine::new().run(&program);
    let _ = std::fs::remove_dir_all(&dir);
    assert_eq!(result, "0\tnil\tnil\tnil", "\n{types}");
}
