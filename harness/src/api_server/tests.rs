use super::*;

fn asked(method: Method, query: &str) -> Asked {
    Asked {
        method,
        path: String::new(),
        query: query.into(),
        content_type: String::new(),
        body: Value::Null,
    }
}

#[test]
fn paths_are_read_as_the_api_server_reads_them() {
    let read = |path| {
        let place = Place::of(path)?;
        let (collection, name, rest) = (place.collection, place.name, place.rest);
        Some(format!("{collection} {} {name:?} {rest:?}", place.resource))
    };
    let cases = [
        (
            "/api/v1/namespaces/n/pods",
            Some("/api/v1/namespaces/n/pods pods \"\" []"),
        ),
        (
            "/apis/apps/v1/namespaces/n/deployments/d/scale",
            Some("/apis/apps/v1/namespaces/n/deployments deployments \"d\" [\"scale\"]"),
        ),
        (
            "/api/v1/namespaces/n/pods/p:1/proxy/a/b",
            Some("/api/v1/namespaces/n/pods pods \"p:1\" [\"proxy\", \"a\", \"b\"]"),
        ),
        (
            "/apis/networking.k8s.io/v1/ingressclasses/i",
            Some("/apis/networking.k8s.io/v1/ingressclasses ingressclasses \"i\" []"),
        ),
        (
            "/api/v1/namespaces/n",
            Some("/api/v1/namespaces namespaces \"n\" []"),
        ),
        ("/apis/apps/v1", None),
        ("/version", None),
        ("/", None),
    ];
    for (path, expected) in cases {
        assert_eq!(read(path).as_deref(), expected, "{path}");
    }
}

#[test]
fn a_query_selects_by_labels_and_by_fields() {
    let object = json!({"metadata": {"labels": {"app.kubernetes.io/name": "a", "t": "b"}},
        "involvedObject": {"name": "p"}, "type": "Warning"});
    let place = Place::of("/api/v1/events").unwrap();
    let selected = |query| {
        let list = found(
            [object.clone()].into_iter(),
            &place,
            &asked(Method::GET, query),
        )?;
        Ok(list["items"].as_array().unwrap().len() == 1)
    };
    for (query, expected) in [
        ("", true),
        ("labelSelector=app.kubernetes.io%2Fname%3Da%2Ct%3Db", true),
        ("limit=5&labelSelector=t%3Dc", false),
        (
            "fieldSelector=involvedObject.name%3Dp%2Ctype%3DWarning",
            true,
        ),
        ("fieldSelector=involvedObject.kind%3DPod", false),
    ] {
        assert_eq!(selected(query), Ok(expected), "{query}");
    }
    let refused: Result<_, Refusal> = selected("labelSelector=t%21%3Db");
    assert!(
        matches!(refused, Err(Refusal::BadRequest(_))),
        "{refused:?}"
    );
}

#[test]
fn objects_of_any_kind_live_and_are_changed_at_their_paths() {
    let mut store = Store::default();
    let mut ask = |method: &str, path: &str, body: Value| {
        let asked = Asked {
            method: method.parse().unwrap(),
            path: path.into(),
            content_type: "application/merge-patch+json".into(),
            body,
            ..asked(Method::GET, "")
        };
        let place = Place::of(path).unwrap();
        answer(&mut store, place.collection, &place, &asked)
    };
    const ALL: &str = "/apis/networking.k8s.io/v1/namespaces/n/ingresses";
    const ELSEWHERE: &str = "/apis/networking.k8s.io/v1/namespaces/m/ingresses";
    let one = format!("{ALL}/canary");
    let ingress = json!({"metadata": {"name": "canary", "annotations": {"weight": "5"}}});
    ask("POST", ALL, ingress.clone()).unwrap();
    assert!(matches!(
        ask("POST", ALL, ingress),
        Err(Refusal::AlreadyExists(_))
    ));
    let heavier = json!({"metadata": {"annotations": {"weight": "50"}}});
    ask("PATCH", &one, heavier).unwrap();
    let seen = ask("GET", &one, Value::Null).unwrap();
    assert_eq!(seen["metadata"]["annotations"]["weight"], "50");
    let elsewhere = ask("GET", ELSEWHERE, Value::Null).unwrap();
    assert_eq!(elsewhere["items"], json!([]));
    let generated = json!({"metadata": {"generateName": "canary-"}});
    let made = ask("POST", ALL, generated).unwrap();
    let name = made["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(name.len() > "canary-".len() && name.starts_with("canary-"));
    ask("DELETE", &one, Value::Null).unwrap();
    let left = ask("GET", ALL, Value::Null).unwrap();
    assert_eq!(left["items"], json!([made]));
    assert!(matches!(
        ask("PATCH", &one, json!({})),
        Err(Refusal::NotFound(_))
    ));
}
