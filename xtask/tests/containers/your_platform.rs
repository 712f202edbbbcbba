//! docs/your-platform.md, followed word for word on this machine.

use std::fs;
use std::path::Path;

use crate::rig::Rig;

const PAGE: &str = include_str!("../../../docs/your-platform.md");

/// The files that a part of the page writes, by their paths, each with its text.
fn files(part: &str) -> Vec<(&str, String)> {
    let mut files: Vec<(&str, String)> = Vec::new();
    let mut blocks = part.split("\n```");
    let mut prose = blocks.next().unwrap_or_default();
    // Blocks and prose take turns.
    while let (Some(block), Some(next)) = (blocks.next(), blocks.next()) {
        let (_, text) = block.split_once('\n').unwrap();
        let line = prose.lines().rfind(|it| !it.is_empty()).unwrap_or_default();
        let path = line.strip_prefix("Add to ").unwrap_or(line);
        if let Some(path) = path.strip_prefix('`').and_then(|it| it.strip_suffix("`:")) {
            match files.iter_mut().find(|(known, _)| *known == path) {
                Some((_, all)) => *all += &format!("\n{text}\n"),
                None => files.push((path, format!("{text}\n"))),
            }
        }
        prose = next;
    }
    files
}

#[test]
fn the_page_leads_from_an_empty_folder_to_a_rehearsal() {
    let (on_this_machine, _) = PAGE.split_once("\n## On a cluster\n").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let hello = folder.path().join("hello");
    let mut config = None;
    for (path, text) in files(on_this_machine) {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // The page's paths are relative to the repository.
        let text = text.replace("hello/", &format!("{}/", hello.display()));
        fs::write(&path, &text).unwrap();
        if path.ends_with(Path::new("hello/harness.toml")) {
            config = Some(text);
        }
    }
    let rig = Rig::of(&config.unwrap());
    rig.run(&["e2e", "--target", "local"]).expect(0, "3 of ");
    let events = rig.events("e2e");
    let judged = events.iter().filter(|it| it["event"] == "threshold-judged");
    assert_eq!(judged.filter(|it| it["holds"] == true).count(), 2);
    assert_eq!(events[0]["platform"], "hello");
}
