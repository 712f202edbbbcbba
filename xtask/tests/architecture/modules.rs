//! The modules of a crate, and their dependencies, read from the source.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

use syn::punctuated::Punctuated;
use syn::visit::Visit;
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree};

/// A module's path below its crate; the crate's root is empty.
type Module = Vec<String>;

/// The modules of a crate, without those of its tests.
#[derive(Default)]
pub struct Modules {
    modules: BTreeSet<Module>,
    /// The path of each import, from the crate's root, by its module and its name there.
    imports: BTreeMap<(Module, String), Vec<String>>,
    /// Each path that starts in the crate, with the module that has it.
    paths: Vec<(Module, Vec<String>)>,
}

/// The siblings that each module depends on.
type Siblings = BTreeMap<Module, BTreeSet<Module>>;

impl Modules {
    /// Reads the crate with this `src`.
    pub fn read(source: &Path) -> Modules {
        let mut roots = ["lib.rs", "main.rs"]
            .map(|name| source.join(name))
            .into_iter();
        let root = roots
            .find(|file| file.exists())
            .expect("a crate has a root");
        let mut modules = Modules::default();
        modules.read_file(&root, source, Vec::new());
        modules
    }

    fn read_file(&mut self, file: &Path, folder: &Path, module: Module) {
        let at = file.display();
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{at}: {error}"));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{at}: {error}"));
        self.read_items(&parsed.items, folder, module);
    }

    fn read_items(&mut self, items: &[Item], folder: &Path, module: Module) {
        self.modules.insert(module.clone());
        for item in items {
            match item {
                Item::Mod(inner) if !is_test(&inner.attrs) => self.read_mod(inner, folder, &module),
                item => Reader {
                    modules: self,
                    module: &module,
                }
                .visit_item(item),
            }
        }
    }

    fn read_mod(&mut self, inner: &ItemMod, folder: &Path, module: &Module) {
        let name = inner.ident.to_string();
        let child = [module.clone(), vec![name.clone()]].concat();
        let below = folder.join(&name);
        match &inner.content {
            Some((_, items)) => self.read_items(items, &below, child),
            None => {
                let files = [folder.join(format!("{name}.rs")), below.join("mod.rs")];
                let file = files.iter().find(|file| file.exists());
                self.read_file(file.expect("a module has a file"), &below, child);
            }
        }
    }

    /// Returns the module that a path names, through the imports of the modules on it.
    fn resolve(&self, path: &[String]) -> Module {
        const DEEPEST: usize = 16;
        let mut path = path.to_vec();
        for _ in 0..DEEPEST {
            let known = (0..=path.len())
                .rev()
                .find(|length| self.modules.contains(&path[..*length]));
            let (module, rest) = path.split_at(known.unwrap_or_default());
            let name = rest.first().cloned().unwrap_or_default();
            let Some(import) = self.imports.get(&(module.to_vec(), name)) else {
                return module.to_vec();
            };
            path = [import, &rest[1..]].concat();
        }
        panic!("cannot resolve the import {}", path.join("::"))
    }

    /// Returns the dependencies between siblings. A module includes those below it.
    fn siblings(&self) -> Siblings {
        let mut siblings = Siblings::new();
        for (from, path) in &self.paths {
            let to = self.resolve(path);
            let pairs = from.iter().zip(&to);
            let common = pairs.take_while(|(one, other)| one == other).count();
            if common < from.len().min(to.len()) {
                let (from, to) = (from[..=common].to_vec(), to[..=common].to_vec());
                siblings.entry(from).or_default().insert(to);
            }
        }
        siblings
    }

    /// Returns the shortest cycle of each module, each cycle once.
    pub fn cycles(&self) -> Vec<String> {
        let siblings = self.siblings();
        let cycles = siblings
            .keys()
            .filter_map(|module| cycle(&siblings, module));
        let mut found = BTreeSet::new();
        cycles
            .filter(|cycle| found.insert(cycle.iter().cloned().collect::<BTreeSet<_>>()))
            .map(|cycle| {
                let names: Vec<String> = cycle.iter().map(|module| module.join("::")).collect();
                names.join(" -> ")
            })
            .collect()
    }
}

/// Returns the shortest path from a module to itself, by a breadth-first search.
fn cycle(siblings: &Siblings, start: &Module) -> Option<Vec<Module>> {
    let mut paths = VecDeque::from([vec![start.clone()]]);
    let mut visited = BTreeSet::new();
    while let Some(path) = paths.pop_front() {
        for next in siblings.get(path.last()?).into_iter().flatten() {
            let longer = [path.clone(), vec![next.clone()]].concat();
            if next == start {
                return Some(longer);
            }
            if visited.insert(next) {
                paths.push_back(longer);
            }
        }
    }
    None
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test"))
    })
}

/// Collects the paths of one module.
struct Reader<'a> {
    modules: &'a mut Modules,
    module: &'a Module,
}

impl Reader<'_> {
    /// Returns a path from the crate's root.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let ups = path.iter().take_while(|it| *it == "super").count();
        let (base, rest) = match path.first()?.as_str() {
            "crate" => (&self.module[..0], &path[1..]),
            "self" => (&self.module[..], &path[1..]),
            "super" => (
                &self.module[..self.module.len().checked_sub(ups)?],
                &path[ups..],
            ),
            _ => (&self.module[..], path),
        };
        Some([base, rest].concat())
    }

    fn import(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        let (path, name) = match tree {
            UseTree::Path(it) => return self.import(&with(&it.ident), &it.tree),
            UseTree::Group(it) => return it.items.iter().for_each(|it| self.import(before, it)),
            UseTree::Name(it) if it.ident == "self" => (before.to_vec(), before.last().cloned()),
            UseTree::Name(it) => (with(&it.ident), Some(it.ident.to_string())),
            UseTree::Rename(it) => (with(&it.ident), Some(it.rename.to_string())),
            UseTree::Glob(_) => (before.to_vec(), None),
        };
        let Some(path) = self.absolute(&path) else {
            return;
        };
        if let Some(name) = name {
            let own = [self.module.clone(), vec![name.clone()]].concat();
            // `use miette::miette` names a crate, not the import itself.
            if !path.starts_with(&own) {
                self.modules
                    .imports
                    .insert((self.module.clone(), name), path.clone());
            }
        }
        self.modules.paths.push((self.module.clone(), path));
    }
}

impl<'a> Visit<'a> for Reader<'_> {
    fn visit_item(&mut self, item: &'a Item) {
        let attributes = match item {
            Item::Fn(it) => &it.attrs,
            Item::Impl(it) => &it.attrs,
            Item::Use(it) => &it.attrs,
            Item::Struct(it) => &it.attrs,
            Item::Mod(_) => return,
            _ => return syn::visit::visit_item(self, item),
        };
        if !is_test(attributes) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        self.import(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let names = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string());
        if let Some(path) = self.absolute(&names.collect::<Vec<_>>()) {
            self.modules.paths.push((self.module.clone(), path));
        }
        syn::visit::visit_path(self, path);
    }

    /// Reads the arguments of a macro that are expressions.
    fn visit_macro(&mut self, call: &'a syn::Macro) {
        let arguments = Punctuated::<syn::Expr, syn::Token![,]>::parse_terminated;
        for argument in call.parse_body_with(arguments).into_iter().flatten() {
            self.visit_expr(&argument);
        }
        self.visit_path(&call.path);
    }
}
