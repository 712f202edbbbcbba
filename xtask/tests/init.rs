//! The command `init`, with a helm that is a shell script.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue panics")]

#[path = "support/command_line.rs"]
mod command_line;

use std::path::Path;
use std::process::Command;

use command_line::xtask;
use tempfile::TempDir;

const SHOP: &str = include_str!("../../harness/init/src/tests/shop.yaml");

/// A folder with a chart `shop`, and a home with a helm that renders it as `SHOP`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("home/harness/tools/bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir(folder.path().join("shop")).unwrap();
    std::fs::write(bin.join("shop.yaml"), SHOP).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n\
         *broken.yaml*) echo 'Error: parse error at (shop/templates/web.yaml:3): unclosed action' >&2; exit 1 ;;\n\
         pull*9.9.9*) echo 'Error: shop:9.9.9: not found' >&2; exit 1 ;;\n\
         pull*) shift 3; [ \"$1\" = --destination ] && echo > \"$2/shop-1.2.3.tgz\" ;;\n\
         show*) echo 'name: shop' ;;\n\
         template*) cat {}/shop.yaml ;;\nesac\n",
        bin.display()
    );
    std::fs::write(bin.join("text"), script).unwrap();
    // By another process: a file that this process has open for writing cannot be run.
    let installed = Command::new("install")
        .args(["-m", "755", "text", "helm"])
        .current_dir(&bin)
        .status();
    assert!(installed.unwrap().success());
    folder
}

fn init(folder: &Path, arguments: &[&str]) -> String {
    xtask(folder, &[&["init"], arguments].concat())
}

#[test]
fn a_chart_becomes_files_and_what_is_missing_is_listed() {
    let folder = folder();
    let output = init(folder.path(), &["--chart", "shop"]);
    insta::assert_snapshot!("init-chart", output);
    for file in ["shop.toml", "shop-checks.hurl", "shop-journey.hurl"] {
        assert!(folder.path().join(file).exists(), "{file}");
    }
    let output = init(folder.path(), &["--chart", "shop"]);
    insta::assert_snapshot!("init-exists", output);
}

#[test]
fn a_chart_of_a_registry_is_pulled_once_and_named_with_its_version() {
    let folder = folder();
    let shop = "oci://charts.example/shop";
    let init = |version: &str| {
        let arguments = ["--chart", shop, "--chart-version", version];
        init(folder.path(), &arguments)
    };
    let output = init("9.9.9");
    insta::assert_snapshot!("init-oci-not-found", output);
    let output = init("1.2.3");
    assert!(output.starts_with("exit code 0"), "{output}");
    let text = std::fs::read_to_string(folder.path().join("shop.toml")).unwrap();
    let chart = format!("chart = \"{shop}\"\nversion = \"1.2.3\"\n");
    assert!(text.contains(&chart), "{text}");
    let kept = "home/harness/charts/charts.example/shop/1.2.3/shop-1.2.3.tgz";
    assert!(folder.path().join(kept).is_file());
}

#[test]
fn the_answer_can_be_one_document() {
    let folder = folder();
    let output = init(
        folder.path(),
        &["--chart", "shop", "--json", "--output", "new.toml"],
    );
    let json = output.strip_prefix("exit code 0\n").unwrap();
    let answer: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(answer["written"][0], "new.toml");
    assert_eq!(answer["found"]["services"][0]["name"], "web");
    let line = answer["to-do"][0]["line"].as_u64().unwrap() as usize;
    let text = std::fs::read_to_string(folder.path().join("new.toml")).unwrap();
    assert!(text.lines().nth(line - 1).unwrap().starts_with("# TO DO: "));
}

#[test]
fn a_chart_or_cluster_that_cannot_be_read_is_refused_with_a_remedy() {
    let folder = folder();
    let kubeconfig = "apiVersion: v1\nkind: Config\nclusters: []\nusers: []\n\
         contexts: [{name: staging, context: {cluster: a, user: a}}]\n";
    std::fs::write(folder.path().join("kubeconfig"), kubeconfig).unwrap();
    let of_cluster = ["--from-cluster", "--namespace", "shop", "--context"];
    let oci = ["--chart", "oci://charts.example/shop"];
    let tagged = [
        "--chart",
        "oci://charts.example/shop:1.2.3",
        "--chart-version",
        "1.2.3",
    ];
    let cases: [(&str, &[&str]); 10] = [
        ("no-source", &[]),
        ("two-sources", &["--chart", "shop", "--from-cluster"]),
        ("no-context", &["--from-cluster", "--namespace", "shop"]),
        (
            "values-of-cluster",
            &["--from-cluster", "--values", "a.yaml"],
        ),
        ("no-chart", &["--chart", "nowhere"]),
        ("no-version", &oci),
        ("tag", &tagged),
        (
            "version-of-folder",
            &["--chart", "shop", "--chart-version", "1.2.3"],
        ),
        (
            "not-rendered",
            &["--chart", "shop", "--values", "broken.yaml"],
        ),
        ("namespace", &["--chart", "shop", "--namespace", "Shop"]),
    ];
    for (case, arguments) in cases {
        let output = init(folder.path(), arguments);
        assert!(output.starts_with("exit code 2"), "{arguments:?}: {output}");
        insta::assert_snapshot!(format!("init-{case}"), output);
    }
    let output = init(folder.path(), &[&of_cluster[..], &["stagin"]].concat());
    assert!(output.starts_with("exit code 2"), "{output}");
    insta::assert_snapshot!("init-unknown-context", output);
    assert!(!folder.path().join("shop.toml").exists());
}
