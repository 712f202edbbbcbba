//! docs/your-platform.md, followed word for word on this machine.

use std::fs::{self, File};
use std::io::Write;

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

/// The folder of a reader who follows the page.
struct Reader {
    folder: tempfile::TempDir,
}

impl Reader {
    /// Writes the files of a part, and returns the platform file.
    fn follow(&self, part: &str) -> String {
        let hello = self.folder.path().join("hello");
        for (path, text) in files(part) {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            // The page's paths are relative to the repository.
            let text = text.replace("hello/", &format!("{}/", hello.display()));
            let mut file = File::options()
                .create(true)
                .append(true)
                .open(&path)
                .unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
        fs::read_to_string(hello.join("harness.toml")).unwrap()
    }
}

#[test]
fn the_page_leads_from_an_empty_folder_to_a_rehearsal() {
    let (on_this_machine, rest) = PAGE.split_once("\n## On a cluster\n").unwrap();
    let reader = Reader {
        folder: tempfile::tempdir().unwrap(),
    };
    let rig = Rig::of(&reader.follow(on_this_machine));
    rig.run(&["e2e", "--target", "local"]).expect(0, "3 of ");
    let events = rig.events("e2e");
    let judged = events.iter().filter(|it| it["event"] == "threshold-judged");
    assert_eq!(judged.filter(|it| it["holds"] == true).count(), 2);
    assert_eq!(events[0]["platform"], "hello");

    let (_, additions) = rest.split_once("\n## Add a service").unwrap();
    let rig = Rig::of(&reader.follow(additions));
    rig.run(&["up", "--target", "local"]).expect_code(0);
    rig.run(&["smoke"]).expect(0, "All 4 checks passed");
    rig.run(&["load", "run", "arrivals"]).expect_code(0);
    let endpoints = rig.load_result("arrivals").endpoints;
    assert!(
        endpoints.contains_key("GET /about/team.json"),
        "{endpoints:?}"
    );
    rig.run(&["down"]).expect_code(0);
}
