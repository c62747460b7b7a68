//! The sources as the house rules see them: files, what each imports, which types each defines. Read as tokens of Rust,
//! so that nested imports, inline paths and `super::` count like the plain form, and text and comments do not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A file below `src`, `tests` or `benches`.
pub(crate) struct Source {
    /// Below the folder, such as `store/ledger.rs`.
    pub path: String,
    pub text: String,
}

impl Source {
    /// The top-level module a file belongs to: `store` for `store.rs` and everything below `store/`.
    pub(crate) fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap()
    }

    /// Lines of code, without comments and without the unit tests at the end.
    pub(crate) fn code(&self) -> impl Iterator<Item = &str> {
        let code = self.text.split("\n#[cfg(test)]").next().unwrap();
        code.lines().filter(|line| !line.trim_start().starts_with("//"))
    }

    /// `["store", "ledger"]` for `store/ledger.rs`; empty for the root.
    fn names(&self) -> Vec<String> {
        let path = self.path.trim_end_matches(".rs");
        if ["lib", "main"].contains(&path) {
            Vec::new()
        } else {
            path.split('/').map(str::to_owned).collect()
        }
    }

    /// The tokens of the code.
    pub(crate) fn tokens(&self) -> TokenStream {
        let code: Vec<&str> = self.code().collect();
        code.join("\n").parse().unwrap_or_else(|error| panic!("{}: {error}", self.path))
    }
}

/// All Rust files below a folder.
pub(crate) fn sources(below: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(below);
    let mut dirs = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(&root).unwrap().display().to_string(), text });
            }
        }
    }
    assert!(!found.is_empty());
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Paths of one file, as they are written; `true` for those of a `pub use`, which re-exports and does not use.
#[derive(Default)]
struct Paths(Vec<(Vec<String>, bool)>);

impl Paths {
    fn of(source: &Source) -> Self {
        let mut paths = Self::default();
        paths.take(&[], source.tokens(), false);
        paths
    }

    /// Takes the paths of some tokens; inside the braces of an import all of them begin with what stands before.
    fn take(&mut self, before: &[String], tokens: TokenStream, inside_reexport: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let (mut at, mut reexport, mut is_public) = (0, inside_reexport, false);
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Ident(word) if word == "pub" => is_public = true,
                TokenTree::Ident(word) if word == "use" => reexport = is_public,
                TokenTree::Ident(_) => {
                    let (path, next) = path_at(&tokens, at);
                    let path = [before, &path].concat();
                    at = next;
                    match tokens.get(at) {
                        Some(TokenTree::Group(group)) if is_braces_of_import(&tokens, at) => {
                            self.take(&path, group.stream(), reexport);
                        }
                        _ => {
                            // A name alone is a local one, or a module that is declared here.
                            if path.len() > 1 {
                                self.0.push((path, reexport));
                            }
                            continue;
                        }
                    }
                }
                TokenTree::Group(group)
                    // `pub(super)` is no path, and the attributes of an item do not end it.
                    if !(is_public && group.delimiter() == Delimiter::Parenthesis) => {
                        self.take(before, group.stream(), reexport);
                    }
                TokenTree::Punct(mark) if mark.as_char() == ';' => {
                    (reexport, is_public) = (inside_reexport, false);
                }
                _ => {}
            }
            at += 1;
        }
    }
}

/// Names joined by `::` from a place on, and the place behind them; a `::` at the end belongs to them.
fn path_at(tokens: &[TokenTree], mut at: usize) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    while let Some(TokenTree::Ident(name)) = tokens.get(at) {
        path.push(name.to_string());
        at += 1;
        if !is_colons(tokens, at) {
            break;
        }
        at += 2;
    }
    (path, at)
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(mark)) if mark.as_char() == ':');
    colon(at) && colon(at + 1)
}

/// True for `{…}` right behind `::`.
fn is_braces_of_import(tokens: &[TokenTree], at: usize) -> bool {
    let is_braces = matches!(&tokens[at], TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
    is_braces && at >= 2 && is_colons(tokens, at - 2)
}

/// Who imports whom, file by file.
pub(crate) struct Imports {
    /// Module path → file.
    files: BTreeMap<Vec<String>, String>,
    /// Module path and name → the path that is re-exported under this name.
    reexports: BTreeMap<(Vec<String>, String), Vec<String>>,
    /// File → the files it uses.
    pub uses: BTreeMap<String, BTreeSet<String>>,
}

impl Imports {
    pub(crate) fn of(sources: &[Source]) -> Self {
        let sources: Vec<&Source> = sources.iter().filter(|source| source.path != "main.rs").collect();
        let files = sources.iter().map(|source| (source.names(), source.path.clone())).collect();
        let mut imports = Self { files, reexports: BTreeMap::new(), uses: BTreeMap::new() };
        let written: Vec<(&&Source, Paths)> =
            sources.iter().map(|source| (source, Paths::of(source))).collect();
        for (source, paths) in &written {
            for (path, _) in paths.0.iter().filter(|(_, reexport)| *reexport) {
                let name = path.last().unwrap().clone();
                imports.reexports.insert((source.names(), name), imports.absolute(&source.names(), path));
            }
        }
        for (source, paths) in &written {
            let used = paths.0.iter().filter(|(_, reexport)| !*reexport);
            let used = used.filter_map(|(path, _)| imports.file_of(&imports.absolute(&source.names(), path)));
            let used = used.filter(|file| *file != source.path).collect();
            imports.uses.insert(source.path.clone(), used);
        }
        imports
    }

    /// A path from the root of the crate; what belongs to another crate comes out as it is.
    fn absolute(&self, module: &[String], path: &[String]) -> Vec<String> {
        let mut base = module.to_vec();
        let mut rest = path;
        match rest.first().map(String::as_str) {
            Some("crate") => {
                base.clear();
                rest = &rest[1..];
            }
            Some("self") => rest = &rest[1..],
            Some("super") => {
                while rest.first().is_some_and(|name| name == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            Some(first) if self.files.contains_key(&[module, &[first.to_owned()]].concat()) => {}
            _ => return [vec!["extern".to_owned()], path.to_vec()].concat(),
        }
        [&base, rest].concat()
    }

    /// The file that a path leads to, through re-exports.
    fn file_of(&self, path: &[String]) -> Option<String> {
        if path.first().is_some_and(|name| name == "extern") {
            return None;
        }
        let depth = (0..=path.len()).rev().find(|depth| self.files.contains_key(&path[..*depth]))?;
        let (module, rest) = path.split_at(depth);
        if let Some(name) = rest.first()
            && let Some(target) = self.reexports.get(&(module.to_vec(), name.clone()))
        {
            return self.file_of(target);
        }
        // What stands in the root is the list of modules.
        if module.is_empty() { None } else { self.files.get(module).cloned() }
    }

    /// A circle of files, if there is one.
    pub(crate) fn circle(&self) -> Option<Vec<String>> {
        let mut done = BTreeSet::new();
        self.uses.keys().find_map(|file| self.circle_from(file, &mut Vec::new(), &mut done))
    }

    fn circle_from(
        &self,
        file: &str,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(begin) = way.iter().position(|before| before == file) {
            return Some(way[begin..].to_vec());
        }
        if !done.insert(file.to_owned()) {
            return None;
        }
        way.push(file.to_owned());
        let found = self.uses.get(file)?.iter().find_map(|next| self.circle_from(next, way, done));
        way.pop();
        found
    }
}

/// Names of the types that a file defines, those inside functions too.
pub(crate) fn type_names(source: &Source) -> Vec<String> {
    fn find(tokens: TokenStream, found: &mut Vec<String>) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let kinds = ["struct", "enum", "trait", "type"];
        for (at, token) in tokens.iter().enumerate() {
            match (token, tokens.get(at + 1)) {
                (TokenTree::Ident(kind), Some(TokenTree::Ident(name)))
                    if kinds.iter().any(|known| kind == known) =>
                {
                    found.push(name.to_string());
                }
                // An associated type is no type of its own.
                (TokenTree::Group(group), _) if !is_body_of_impl(&tokens, at) => find(group.stream(), found),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    find(source.tokens(), &mut found);
    found
}

/// True for the braces of an `impl`: the word stands before them, with no other braces or `;` between.
fn is_body_of_impl(tokens: &[TokenTree], at: usize) -> bool {
    let before = tokens[..at].iter().rev().take_while(|token| match token {
        TokenTree::Group(group) => group.delimiter() != Delimiter::Brace,
        TokenTree::Punct(mark) => mark.as_char() != ';',
        _ => true,
    });
    let mut before = before;
    matches!(&tokens[at], TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
        && before.any(|token| matches!(token, TokenTree::Ident(word) if word == "impl"))
}
