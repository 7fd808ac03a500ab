//! Symbol columns of any Arrow string type, read as runs of equal values.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Symbols in order of first sight, each with a dense code.
#[derive(Debug, Clone, Default)]
pub struct SymbolTable {
    names: Vec<Box<str>>,
    codes: HashMap<Box<str>, u32, RandomState>,
}

impl SymbolTable {
    /// The code of a name, given at first sight.
    pub fn intern(&mut self, name: &str) -> u32 {
        if let Some(code) = self.codes.get(name) {
            return *code;
        }
        let code = self.names.len() as u32;
        self.names.push(name.into());
        self.codes.insert(name.into(), code);
        code
    }

    /// All names, by code.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }
}
