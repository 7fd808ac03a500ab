//! Copies the migrations into the build's output, from where maturin packs them beside the Python modules.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let source = Path::new("../../migrations");
    println!("cargo::rerun-if-changed={}", source.display());
    let target = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("migrations");
    fs::create_dir_all(&target)?;
    for entry in fs::read_dir(source)? {
        let path = entry?.path();
        if let (Some("sql"), Some(name)) = (path.extension().and_then(|e| e.to_str()), path.file_name()) {
            fs::copy(&path, target.join(name))?;
        }
    }
    Ok(())
}
