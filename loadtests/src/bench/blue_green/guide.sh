#!/bin/bash
# The release script of the deployment guide, repaired where it cannot run, and nowhere else:
# what our deployer is measured against. Each "Repair" says what could not work and what is
# done instead. Its design is left as it is: three pods whatever is live, a fixed wait after the
# switch, every pod asked once, the old colour to 0 at once, no lock, and no way to go on.
#
# Usage: guide.sh NAMESPACE VERSION
set -e

SERVICE="market-data-service"
# Repair: the namespace was written into the script, the version alone was asked for.
NAMESPACE="$1"
VERSION="$2"

# Repair: `set image` and `scale` cannot say who they are, and the cluster lets nobody but a
# deployer move a live colour. A patch can.
change() {
    kubectl patch "$1" "$2" --namespace "$NAMESPACE" --field-manager trii-blue-green --patch "$3"
}

# Whether something answers well, asked once.
get() {
    kubectl get --raw "/api/v1/namespaces/$NAMESPACE/$1" --request-timeout 10s > /dev/null
}

# Repair: no Service ends in "-active", and none selects by "version". Users reach the Service
# that is called as the service is, and it selects by trii.co/track.
LIVE=$(kubectl get service "$SERVICE" --namespace "$NAMESPACE" \
    --output jsonpath='{.spec.selector.trii\.co/track}')
if [[ "$LIVE" == "blue" ]]; then
    IDLE="green"
else
    IDLE="blue"
fi
echo "$LIVE is live: $VERSION goes to $IDLE"

# Repair: the registry was a variable that nobody sets. The repository is the one that is there.
IMAGE=$(kubectl get deployment "$SERVICE-$IDLE" --namespace "$NAMESPACE" \
    --output jsonpath='{.spec.template.spec.containers[0].image}')
# Repair: a pod tells its version by a label, which `set image` leaves as it was.
change deployment "$SERVICE-$IDLE" '{"spec": {"template": {
    "metadata": {"labels": {"app.kubernetes.io/version": "'"$VERSION"'"}},
    "spec": {"containers": [{"name": "'"$SERVICE"'", "image": "'"${IMAGE%:*}:$VERSION"'"}]}
}}}'
change deployment "$SERVICE-$IDLE" '{"spec": {"replicas": 3}}'
kubectl rollout status "deployment/$SERVICE-$IDLE" --namespace "$NAMESPACE" --timeout 300s

# Repair: a pod's address leads nowhere from outside the cluster's network. The API server
# passes the question on.
PODS=$(kubectl get pods --namespace "$NAMESPACE" \
    --selector "app.kubernetes.io/name=$SERVICE,trii.co/track=$IDLE" \
    --output jsonpath='{.items[*].metadata.name}')
for POD in $PODS; do
    # Repair: the chart's pods tell of their health on a port of its own.
    if ! get "pods/$POD:9090/proxy/health"; then
        echo "$POD is not well: $IDLE goes back to 0"
        change deployment "$SERVICE-$IDLE" '{"spec": {"replicas": 0}}'
        exit 1
    fi
done

echo "traffic goes to $IDLE"
change service "$SERVICE" '{"spec": {"selector": {"trii.co/track": "'"$IDLE"'"}}}'
sleep 10

# Repair: the smoke test was a script that does not exist. The path that our deployer smokes is
# asked, once.
if ! get "services/$SERVICE:8000/proxy/quotes"; then
    echo "the smoke test failed: traffic goes back to $LIVE"
    change service "$SERVICE" '{"spec": {"selector": {"trii.co/track": "'"$LIVE"'"}}}'
    exit 1
fi

echo "$LIVE goes to 0"
change deployment "$SERVICE-$LIVE" '{"spec": {"replicas": 0}}'
echo "$VERSION is live, as $IDLE"
