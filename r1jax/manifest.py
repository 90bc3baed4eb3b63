"""Manifests: what makes a finished checkpoint folder tell itself from a torn or corrupt one.

`manifest.<p>` holds the size and CRC-32 of process p's share of the files, after a CRC-32 of its
own. It is written when all the files are on the disk, so a folder that lacks one was cut short.
"""

import json
import os
import zlib
from pathlib import Path

import jax


def flaw_of(folder: Path) -> str | None:
  """folder -> what is wrong with it, None if nothing. Each process checks a share of the files."""
  try:
    files = _read_manifests(folder)
  except (OSError, ValueError) as error:
    return f'it has no valid manifest ({error})'
  for name, (size, checksum) in sorted(files.items())[jax.process_index() :: jax.process_count()]:
    path = folder / name
    try:
      found = path.stat().st_size
      if found != size:
        return f'{name} has {found} bytes instead of {size}'
      if _checksum(path) != checksum:
        return f'{name} is corrupt: its checksum is wrong'
    except FileNotFoundError:
      return f'{name} is missing'
    except OSError as error:
      return f'{name} cannot be read ({error})'
  return None


def write_manifest(folder: Path) -> None:
  """Makes this process's share of the files durable and writes their sizes and checksums."""
  process, processes = jax.process_index(), jax.process_count()
  manifests = set(folder.glob('manifest.*'))
  paths = sorted(p for p in folder.rglob('*') if p not in manifests)
  files = {}
  for path in [p for p in paths if p.is_file()][process::processes]:
    sync(path)
    files[str(path.relative_to(folder))] = [path.stat().st_size, _checksum(path)]
  text = json.dumps({'processes': processes, 'files': files}, sort_keys=True)
  manifest = folder / f'manifest.{process}'
  manifest.write_text(f'{zlib.crc32(text.encode()):08x} {text}')
  for path in [manifest, *(p for p in paths if p.is_dir()), folder]:
    sync(path)


def _read_manifests(folder: Path) -> dict[str, list[int]]:
  """folder -> {file: [bytes, checksum]} of all processes; ValueError where one is damaged."""
  files, process, processes = {}, 0, 1
  while process < processes:
    line = (folder / f'manifest.{process}').read_text()
    checksum, _, text = line.partition(' ')
    if checksum != f'{zlib.crc32(text.encode()):08x}':
      raise ValueError(f'manifest.{process} is damaged')
    content = json.loads(text)
    files.update(content['files'])
    process, processes = process + 1, content['processes']
  return files


def _checksum(path: Path) -> int:
  checksum = 0
  with open(path, 'rb') as file:
    while chunk := file.read(1 << 20):
      checksum = zlib.crc32(chunk, checksum)
  return checksum


def sync(path: Path) -> None:
  """Waits until a file or a folder is on the disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
