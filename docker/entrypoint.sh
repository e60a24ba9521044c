#!/bin/sh
# `executor` is what Spark's driver calls a pod with that is to be one of its executors; all else is a command.
# The wheel of pyspark lacks the entry point of Spark's own images, of which this is the executor's part.
set -eu
if [ "${1:-}" != executor ]; then
  exec "$@"
fi
options=$(env | sed -n 's/^SPARK_JAVA_OPT_\([0-9]*\)=\(.*\)/\1 \2/p' | sort -n | cut -d' ' -f2-)
# One option a line: the driver's options hold no line breaks, but may hold blanks.
set --
while IFS= read -r option; do
  [ -n "$option" ] && set -- "$@" "$option"
done <<EOF
$options
EOF
# As in the driver, the first on the class path is what the archive of classes was made with.
exec java "$@" -Xms"$SPARK_EXECUTOR_MEMORY" -Xmx"$SPARK_EXECUTOR_MEMORY" \
  -cp "/opt/usedcars/jars/spark-classes/spark.jar:${SPARK_CLASSPATH:+$SPARK_CLASSPATH:}$SPARK_HOME/jars/*" \
  org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
  --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES" \
  --app-id "$SPARK_APPLICATION_ID" --hostname "$SPARK_EXECUTOR_POD_IP" \
  --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME"
