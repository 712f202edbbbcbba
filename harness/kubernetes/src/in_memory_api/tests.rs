use super::*;

fn request(method: &str, path: &str, query: &str, body: Value) -> ApiRequest {
    ApiRequest {
        method: method.parse().unwrap(),
        path: path.into(),
        query: query.into(),
        content_type: "application/merge-patch+json".into(),
        body,
    }
}

#[test]
fn paths_are_parsed_as_by_the_api_server() {
    let read = |path| {
        let place = ObjectPath::of(path)?;
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
    let place = ObjectPath::of("/api/v1/events").unwrap();
    let selected = |query| {
        let request = request("GET", "", query, Value::Null);
        let list = found([object.clone()].into_iter(), &place, &request)?;
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
    let refused: Result<_, ApiRefusal> = selected("labelSelector=t%21%3Db");
    assert!(
        matches!(refused, Err(ApiRefusal::BadRequest(_))),
        "{refused:?}"
    );
}

#[test]
fn objects_of_any_kind_are_created_and_changed_at_their_paths() {
    let mut store = Store::default();
    let mut send = |method: &str, path: &str, body: Value| {
        let request = request(method, path, "", body);
        let place = ObjectPath::of(path).unwrap();
        answer(&mut store, place.collection, &place, &request)
    };
    const ALL: &str = "/apis/networking.k8s.io/v1/namespaces/n/ingresses";
    const ELSEWHERE: &str = "/apis/networking.k8s.io/v1/namespaces/m/ingresses";
    let one = format!("{ALL}/canary");
    let ingress = json!({"metadata": {"name": "canary", "annotations": {"weight": "5"}}});
    send("POST", ALL, ingress.clone()).unwrap();
    let again = send("POST", ALL, ingress);
    assert!(matches!(again, Err(ApiRefusal::AlreadyExists(_))));
    let heavier = json!({"metadata": {"annotations": {"weight": "50"}}});
    send("PATCH", &one, heavier).unwrap();
    let patched = send("GET", &one, Value::Null).unwrap();
    assert_eq!(patched["metadata"]["annotations"]["weight"], "50");
    let elsewhere = send("GET", ELSEWHERE, Value::Null).unwrap();
    assert_eq!(elsewhere["items"], json!([]));
    let generated = json!({"metadata": {"generateName": "canary-"}});
    let created = send("POST", ALL, generated).unwrap();
    let name = created["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(name.len() > "canary-".len() && name.starts_with("canary-"));
    send("DELETE", &one, Value::Null).unwrap();
    let remaining = send("GET", ALL, Value::Null).unwrap();
    assert_eq!(remaining["items"], json!([created]));
    let deleted = send("PATCH", &one, json!({}));
    assert!(matches!(deleted, Err(ApiRefusal::NotFound(_))));
}
