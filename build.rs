//! Compiles the layer under SQLite that sums up the database's pages.

const LAYER: &str = "src/store/sqlite/pages.c";

fn main() {
    println!("cargo:rerun-if-changed={LAYER}");
    let headers = std::env::var("DEP_SQLITE3_INCLUDE").unwrap_or_default();
    cc::Build::new()
        .file(LAYER)
        .include(headers)
        .warnings_into_errors(true)
        .cargo_metadata(false)
        .compile("switchboard_pages");
    let built = std::env::var("OUT_DIR").unwrap_or_default();
    println!("cargo:rustc-link-search=native={built}");
    // Whole: nothing asks for what is in it, it begins by itself.
    println!("cargo:rustc-link-lib=static:+whole-archive=switchboard_pages");
}
