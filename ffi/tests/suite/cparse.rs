//! Declarations: what is accepted, what is refused with which words, and that nothing makes the parser fall over.

use moonlit_ffi::cparse::{Param, declare, parse_type};
use moonlit_ffi::ctype::name::type_name;
use moonlit_ffi::ctype::{CTypeId, CTypeTable, Member, Symbol};
use std::fmt::Write as _;
use std::process::Command;

fn table(source: &str) -> CTypeTable {
    let mut table = CTypeTable::default();
    if let Err(e) = declare(&mut table, source.as_bytes(), &[]) {
        panic!("{source}: {e}");
    }
    table
}

fn name_of(source: &str) -> String {
    let mut table = CTypeTable::default();
    match parse_type(&mut table, source.as_bytes(), &[]) {
        Ok(id) => type_name(&table, id),
        Err(e) => format!("error: {e}"),
    }
}

fn refusal(source: &str) -> String {
    match declare(&mut CTypeTable::default(), source.as_bytes(), &[]) {
        Ok(()) => "accepted".to_owned(),
        Err(e) => e.to_string(),
    }
}

/// Types whose text must be what LuaJIT prints.
const TYPES: &[&str] = &[
    "char",
    "signed char",
    "unsigned char",
    "long",
    "unsigned long",
    "long int unsigned",
    "int8_t",
    "size_t",
    "long long",
    "wchar_t",
    "ssize_t",
    "float",
    "double",
    "long double",
    "complex",
    "complex float",
    "complex double",
    "void",
    "void*",
    "const char*",
    "int[3]",
    "int[]",
    "int[3][4]",
    "int(*)[3]",
    "int*[3]",
    "int(int)",
    "int(*)(int,...)",
    "int(**)(void)",
    "int(*[3])(void)",
    "const int",
    "volatile const int",
    "int*const",
    "int *const volatile*",
    "int&",
    "int (&)(void)",
    "va_list",
    "bool",
    "_Bool",
    "unsigned short",
    "float __attribute__((vector_size(16)))",
    "int __attribute__((mode(DI)))",
    "int *restrict",
    "const int[3]",
    "int __attribute__((aligned(16)))",
    "int * __ptr32",
    "unsigned __int64",
    "uint8_t *",
    "int(*)(int[3])",
    "const void*",
    "int const * const",
    "char const*(*)(int)",
    "bool[3]",
    "foo",
    "int[",
    "int x",
    "int)",
    "struct nope",
    "int[2][?]",
    "int[?][?]",
    "void[3]",
    "int()[3]",
    "int[0x20000000]",
    "int[-5]",
    "int[3000000000]",
    "unsigned",
    "short int",
    "signed",
    "const",
    "int (*(*)(int))(void)",
    "int ((*))",
    "int __attribute__((mode(QI)))",
    "uint8_t __attribute__((vector_size(8)))",
    "int[2*3+(1<<2)]",
    "int[sizeof(int*)]",
    "int[1?2:3]",
    "int['a']",
    "",
    "*",
    "int**********",
    "unsigned char[4][4][4]",
    "void (*)(void (*)(int), ...)",
];

/// Declarations that must end as in LuaJIT, each alone in a fresh state.
const DECLARATIONS: &[&str] = &[
    "typedef int ta; typedef double ta;",
    "static inline int f(int x) { return x+1; }",
    "enum {A2=4294967296};",
    "static const int X=5;",
    "static int Y=5;",
    "static const long long Z=5;",
    "static const unsigned char W=300;",
    "int x y;",
    "foo bar;",
    "int\n\nx y",
    "struct s2 {int a;}; struct s2 {int b;};",
    "struct {int a",
    "int a[",
    "int a[-1];",
    "int a[5",
    "int a(int b",
    "x",
    "",
    ";",
    "int",
    "struct zz",
    "typedef struct zz",
    "typedef",
    "extern",
    "int :3;",
    "struct a1 { int a:33; };",
    "struct a2 { int a[]; int b; };",
    "struct a3 {void x;};",
    "struct a3 {struct unk x;};",
    "int $;",
    "#define X 1",
    "#pragma foo\nint zzz;",
    "# 5\nint a b;",
    "#line 9 \"foo\"\nint a b;",
    "'a",
    "\"abc",
    "int @;",
    "int a; /* unfinished",
    "int a = 5;",
    "enum e1 {A,A};",
    "enum e1 {B4 = B4};",
    "enum e2 {C4 = 1/0};",
    "int double a;",
    "auto int a;",
    "signed unsigned int aa;",
    "union u1 {int a[];};",
    "int g1(int)(int);",
    "int g2(int)[3];",
    "typedef int g3[3]; g3 g4(void);",
    "struct a7 {int x; int x;};",
    "int f8(int x, int x);",
    "enum e9;",
    "struct undefd foo();",
    "int k1() __asm__(\"foo\");",
    "int a10[sizeof(int)*2];",
    "int a12['a'];",
    "int a13[\"abc\"];",
    "int a14[sizeof \"abc\"];",
    "int a16[nope];",
    "int a17[0x7fffffff];",
    "struct b1 { int a; } b1v, *b1p;",
    "struct t1; union t1 { int a; };",
    "int a, b, *c, d[3];",
    "typedef int (*cb)(void *, int); cb f(cb);",
    "struct q { unsigned a:3, :0, b:5; };",
    "struct q { int a; struct { int b; }; };",
    "extern int errno;",
    "int f(void x);",
    "int f(void, int);",
    "int f(...);",
    "struct { int x[?]; int y; } z;",
    "struct s { int : 3; };",
    "struct s { int; };",
    "struct s { float f:3; };",
    "struct s { bool b:2; };",
    "struct s { int a:0; };",
    "enum { A = -1, B };",
    "enum { A, };",
    "enum { , };",
    "int a b c;\nint d;",
    "int a;\nint b;\nint c d;",
    "struct s { int a; }\nint x;",
    "__extension__ int x;",
    "typedef int T; T T;",
    "int (*f)(int), g;",
    "int f(int (*)(int), char *[]);",
    "int f(register int x);",
    "int f(static int x);",
    "struct s { static const int A = 3; };",
    "struct s { static int A = 3; };",
    "int a[2][];",
    "struct s { extern int a; };",
    "int f() { return 1; } int g();",
    "int f() {",
    "char a['\\n'];",
    "int a[08];",
    "int a[1x];",
];

/// Lines `ok` or the message, as `luajit` has them; `None` when it is not installed.
fn luajit(program: &str) -> Option<Vec<String>> {
    let out = Command::new("luajit").arg("-e").arg(program).output().ok()?;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8_lossy(&out.stdout).split('\x01').map(str::to_owned).collect())
}

fn lua_list(items: &[&str]) -> String {
    let mut list = String::from("local t = {");
    for item in items {
        let mut quoted = String::new();
        for b in item.bytes() {
            write!(quoted, "\\{b:03}").expect("writing to a string");
        }
        write!(list, "\"{quoted}\",").expect("writing to a string");
    }
    list.push('}');
    list
}

#[test]
fn type_texts_and_refusals_equal_luajits() {
    let program = format!(
        "local ffi = require 'ffi' {} for i, s in ipairs(t) do
           local ok, r = pcall(function() return tostring(ffi.typeof(s)) end)
           io.write(ok and r or 'error: ' .. r:gsub('^[^:]*:%d+: ', ''), '\\1') end",
        lua_list(TYPES)
    );
    let Some(expected) = luajit(&program) else {
        eprintln!("skipped: luajit is not installed");
        return;
    };
    let mut differences = String::new();
    for (source, expected) in TYPES.iter().zip(expected) {
        let mut got = name_of(source);
        if !got.starts_with("error: ") {
            got = format!("ctype<{got}>");
        }
        if got != expected {
            writeln!(differences, "{source}: {got}, LuaJIT: {expected}").expect("writing to a string");
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}

#[test]
fn declarations_end_as_in_luajit() {
    // Names are made unlike by running each list entry in its own process state: luajit has one table per state.
    let Some(_) = luajit("io.write('')") else {
        eprintln!("skipped: luajit is not installed");
        return;
    };
    let program = format!(
        "{} local self = ...
         for i, s in ipairs(t) do
           local f = io.popen([[luajit -e 'local ffi = require \"ffi\" local s = io.read(\"*a\")
             local ok, e = pcall(ffi.cdef, s) io.write(ok and \"accepted\" or e) ' < ]] .. (function()
               local n = os.tmpname() local h = io.open(n, 'w') h:write(s) h:close() return n end)())
           io.write(f:read('*a'), '\\1') f:close()
         end",
        lua_list(DECLARATIONS)
    );
    let expected = luajit(&program).expect("ran above");
    let mut differences = String::new();
    for (source, expected) in DECLARATIONS.iter().zip(expected) {
        let got = refusal(source);
        if got != expected {
            writeln!(differences, "{source}: {got}, LuaJIT: {expected}").expect("writing to a string");
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}

#[test]
fn parameters_stand_for_types_names_and_numbers() {
    let mut table = CTypeTable::default();
    let params = [Param::Type(CTypeId::DOUBLE), Param::Name(b"width".as_slice().into()), Param::Number(7)];
    declare(&mut table, b"struct p { $ $[$]; };", &params).expect("three parameters");
    let tag = table.tag(b"p").expect("declared");
    assert_eq!(table.size(tag), Some(56));
    assert!(matches!(table.member(tag, b"width"), Some(Member::Field { offset: 0, .. })));
    let one = [Param::Type(CTypeId::INT32), Param::Number(1)];
    assert_eq!(
        declare(&mut table, b"$ x;", &one).expect_err("one too many").to_string(),
        "wrong number of type parameters"
    );
}

#[test]
fn asm_renames_are_kept() {
    let table = table("int foo(int) __asm__(\"foo\" \"@@V2\"); int bar;");
    match table.symbol(b"foo") {
        Some(Symbol::Extern { link_name: Some(name), .. }) => assert_eq!(&name[..], b"foo@@V2"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(table.symbol(b"bar"), Some(Symbol::Extern { link_name: None, .. })));
}

#[test]
fn anonymous_members_are_members_of_the_outer_record() {
    let table = table("struct o { int a; union { int b; struct { char c, d; }; }; enum { E1 = 9 }; };");
    let id = table.tag(b"o").expect("declared");
    assert!(matches!(table.member(id, b"d"), Some(Member::Field { offset: 5, .. })));
    assert!(matches!(table.member(id, b"E1"), Some(Member::Const(c)) if c.value == 9));
    assert_eq!(table.size(id), Some(8));
}

#[test]
fn const_of_an_anonymous_member_reaches_its_fields() {
    let table = table("struct o { const struct { int a; }; };");
    let id = table.tag(b"o").expect("declared");
    let Some(Member::Field { ty, .. }) = table.member(id, b"a") else { panic!("no member") };
    assert!(table.quals(ty).is_const());
}

#[test]
fn two_hundred_thousand_declarations_take_linear_time() {
    let mut source = String::new();
    for i in 0..200_000 {
        match i % 4 {
            0 => writeln!(source, "struct s{i} {{ int a; struct s{i} *next; }};"),
            1 => writeln!(source, "typedef struct s{} t{i};", i - 1),
            2 => writeln!(source, "t{} *f{i}(int, t{} *);", i - 1, i - 1),
            _ => writeln!(source, "enum {{ E{i} = {i} }};"),
        }
        .expect("writing to a string");
    }
    let start = std::time::Instant::now();
    let table = table(&source);
    assert!(table.symbol(b"E199999").is_some());
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn a_table_of_types_does_not_grow_without_end() {
    let mut t = CTypeTable::default();
    let many = "struct {}; ".repeat(1 << 16);
    let mut refused = None;
    for _ in 0..32 {
        if let Err(e) = declare(&mut t, many.as_bytes(), &[]) {
            refused = Some(e.to_string());
            break;
        }
    }
    assert_eq!(refused.as_deref(), Some("table overflow"));
    // The last bit of room goes too; what names the types that are there needs none.
    while declare(&mut t, b"struct {};", &[]).is_ok() {}
    let refused = parse_type(&mut t, b"struct { int a; }", &[]).map_err(|e| e.to_string());
    assert_eq!(refused, Err("table overflow".to_string()));
    assert!(parse_type(&mut t, b"unsigned int", &[]).is_ok());
    assert!(declare(&mut t, b"", &[]).is_ok());
}

#[test]
fn deep_nesting_is_refused_not_overflowed() {
    let many = 50_000;
    for (open, middle, close) in [
        ("int a[", "1", "];"),
        ("int x(", "", ");"),
        ("struct {", "int a;", "} x;"),
        ("(", "1", ")"),
        ("- ", "1", ""),
        ("int (", "x", ")"),
        ("int (*", "x", ")(int)"),
        ("1 ? 1 : ", "1", ""),
        ("sizeof(", "int", ")"),
        ("(int)", "1", ""),
    ] {
        let source = format!("int z[{}{middle}{}];", open.repeat(many), close.repeat(many));
        assert_ne!(refusal(&source), "accepted");
        let source = format!("{}{middle}{}", open.repeat(many), close.repeat(many));
        assert_ne!(refusal(&source), "accepted");
    }
    assert_eq!(refusal(&format!("int {}x;", "*".repeat(many))), "chunk has too many syntax levels");
}

#[test]
fn typedefs_may_nest_types_without_end() {
    let mut source = String::from("typedef int t0;\ntypedef int a0[1];\n");
    for i in 1..50_000 {
        writeln!(source, "typedef t{} *t{i}; typedef a{} a{i}[1]; typedef const a{i} c{i};", i - 1, i - 1)
            .expect("writing to a string");
        if i > 300 {
            // Qualifying walks all dimensions: keep only a few such.
            source.truncate(source.rfind(" typedef const").expect("just written"));
            source.push('\n');
        }
    }
    let mut table = table(&source);
    let id = parse_type(&mut table, b"a49999", &[]).expect("declared");
    assert_eq!(table.size(id), Some(4));
    assert_eq!(type_name(&table, id), "?");
}

/// Random sequences of words that are likely to get far into the grammar.
#[test]
fn random_declarations_never_panic() {
    const WORDS: &[&str] = &[
        "int",
        "struct",
        "union",
        "enum",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        ";",
        ",",
        "*",
        "&",
        ":",
        "a",
        "b",
        "S",
        "T",
        "=",
        "1",
        "3",
        "0x7fffffff",
        "-",
        "?",
        "...",
        ".",
        "typedef",
        "static",
        "const",
        "extern",
        "unsigned",
        "char",
        "double",
        "long",
        "__attribute__((packed))",
        "__attribute__((aligned(",
        "))",
        "sizeof",
        "$",
        "#pragma pack(1)\n",
        "#pragma pack(push",
        "\n",
        "#",
        "\"s\"",
        "'c'",
        "__asm__",
        "<<",
        "/",
        "%",
        "complex",
        "bool",
        "__attribute__((vector_size(16)))",
        "void",
        "register",
        "\\",
        "\x7f",
        "/*",
        "*/",
        "//",
        "\"",
        "'",
        "__declspec(align(8))",
        "__attribute__((mode(V4SI)))",
        "inline",
        "~",
        "!",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize
    };
    let mut accepted = 0;
    for _ in 0..30_000 {
        let mut source = String::new();
        for _ in 0..next() % 24 {
            source.push_str(WORDS[next() % WORDS.len()]);
            source.push(' ');
        }
        let mut table = CTypeTable::default();
        let params = [Param::Type(CTypeId::INT32), Param::Name(b"n".as_slice().into()), Param::Number(-1)];
        accepted += usize::from(declare(&mut table, source.as_bytes(), &params[..next() % 4]).is_ok());
        let _ = parse_type(&mut table, source.as_bytes(), &[]);
        let bytes: Vec<u8> = (0..next() % 40).map(|_| next() as u8).collect();
        let _ = declare(&mut table, &bytes, &[]);
    }
    assert!(accepted > 0);
}

/// Every truncation of a real declaration ends in an answer.
#[test]
fn truncated_declarations_never_panic() {
    let source = "#pragma pack(push, 2)\ntypedef struct __attribute__((packed, aligned(8))) tag { int a:3, b; const char *(*f[2])\
                  (int, struct tag *restrict, ...); union { double d[sizeof(int) + 'x']; enum { A = -1, B = A << 2 } e; };\
                  static const int K = (3 ? 4 : 5) % 3; unsigned char tail[?]; } tag_t; int g(tag_t *) __asm__(\"h\");";
    for end in 0..=source.len() {
        let _ = declare(&mut CTypeTable::default(), &source.as_bytes()[..end], &[]);
    }
    assert_eq!(refusal(source), "accepted");
}
