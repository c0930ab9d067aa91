"""sbatch, srun, scontrol and sacct of one machine: jobs run at once, and again when they were requeued.

``install(folder)`` writes them into ``folder/bin``; ``folder/pids/JOB`` holds the process ids of a job's tasks.
"""

import sys
from pathlib import Path

_COMMANDS = {
    "sbatch": r"""
script = Path(sys.argv[1])
flags = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", script.read_text(), re.M))
tasks = flags.get("ntasks-per-node", "1")
named = {"SLURM_NTASKS": tasks, "SLURM_NTASKS_PER_NODE": tasks, "SLURM_JOB_NUM_NODES": "1", "SLURM_NNODES": "1",
         "SLURM_JOB_NAME": flags["job-name"], "SLURM_NODELIST": "127.0.0.1", "SLURM_NODEID": "0"}
(home / "flags").write_text(script.read_text())
n = int(re.split("[-%]", flags["array"])[1]) + 1 if "array" in flags else 0
print("Submitted batch job 4200", flush=True)
loop = 'while bash "$0"; [ -e "$1" ]; do rm "$1"; done'
for k in range(max(n, 1)):
    job = f"4200_{k}" if n else "4200"
    array = {"SLURM_ARRAY_JOB_ID": "4200", "SLURM_ARRAY_TASK_ID": str(k)} if n else {}
    environment = {**os.environ, **named, **array, "SLURM_JOB_ID": str(4200 + k)}
    subprocess.Popen(["bash", "-c", loop, str(script), str(home / f"requeue_{job}")], env=environment,
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
""",
    "srun": r"""
array, e = "SLURM_ARRAY_JOB_ID" in os.environ, os.environ
job = f"{e['SLURM_ARRAY_JOB_ID']}_{e['SLURM_ARRAY_TASK_ID']}" if array else e["SLURM_JOB_ID"]
command = sys.argv[sys.argv.index("--unbuffered") + 1:]
files = {}
while command[0].startswith("--"):
    files[command[0]] = command[1].replace("%A_%a", job).replace("%j", job)
    command = command[2:]
tasks = []
for task in range(int(e["SLURM_NTASKS"])):
    out, err = (open(files[name].replace("%t", str(task)), "a") for name in ("--output", "--error"))
    environment = {**e, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)}
    tasks.append(subprocess.Popen(command, stdout=out, stderr=err, env=environment))
(home / "pids").mkdir(exist_ok=True)
(home / "pids" / job).write_text(" ".join(str(task.pid) for task in tasks))
sys.exit(max(task.wait() for task in tasks))
""",
    "scontrol": 'assert sys.argv[1] == "requeue"\n(home / f"requeue_{sys.argv[2]}").touch()\n'
    '(home / "requeued").open("a").write(sys.argv[2] + "\\n")\n',
    "sacct": 'print("JobID|State|NodeList")\n',
}


def install(folder: Path) -> Path:
    """The folder that is to come first on PATH."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for name, body in _COMMANDS.items():
        imports = "import os, re, subprocess, sys\nfrom pathlib import Path\n"
        head = f"#!{sys.executable}\n{imports}home = Path({str(folder)!r})\n"
        (programs / name).write_text(head + body)
        (programs / name).chmod(0o755)
    return programs
