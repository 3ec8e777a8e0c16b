//! Compiles the worker's few lines of C++ (`src/sys/memory.cpp`). They are linked in front of llama.cpp, whose functions they call.

fn main() {
    println!("cargo:rerun-if-changed=src/sys/memory.cpp");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .extra_warnings(true)
        .file("src/sys/memory.cpp")
        .compile("mms_engine_memory");
}
