#!/bin/bash
# A short-lived JVM: the broker's own settings for memory and agents are not for it.
export KAFKA_HEAP_OPTS=-Xmx256M KAFKA_OPTS= KAFKA_LOG4J_ROOT_LOGLEVEL=WARN
export KAFKA_JVM_PERFORMANCE_OPTS='-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -Djava.awt.headless=true'
exec /opt/kafka/bin/kafka-run-class.sh kafka.tools.StorageTool "$@"
