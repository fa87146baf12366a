"""`python -m unclip`, as launchers start several processes: `torchrun --nproc-per-node 8 -m unclip train …`."""

from unclip.cli import main

if __name__ == "__main__":
    main()
