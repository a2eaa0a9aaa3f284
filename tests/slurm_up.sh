#!/bin/bash
# Starts a Slurm of two nodes on this machine alone: slurm_up.sh FOLDER. Needs root and Debian's packages slurm-wlm and munge.
# Then: export SLURM_CONF=FOLDER/slurm.conf. To end it: pkill slurmctld; pkill slurmd.
set -euo pipefail
folder=$1
host=$(hostname)
mkdir -p "$folder"/{state,log,spool/n1,spool/n2}
cat > "$folder/slurm.conf" <<EOF
ClusterName=tests
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
KillWait=5
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17001 CPUs=2 RealMemory=4000
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17002 CPUs=2 RealMemory=4000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
install -d -o munge -g munge /run/munge
pgrep -x munged > /dev/null || su -s /bin/bash munge -c /usr/sbin/munged
export SLURM_CONF="$folder/slurm.conf"
slurmctld
sleep 1
slurmd -N n1
slurmd -N n2
for _ in $(seq 40); do
    [ "$(sinfo -h -N -t idle | wc -l)" = 2 ] && exit 0
    sleep 0.5
done
sinfo
exit 1
