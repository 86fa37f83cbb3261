"""Public data sets: where their files are, and the checksums by which they are known.

The checksums of the CaloChallenge's files on Zenodo are the MD5 that Zenodo publishes, as several public programs that
download them state them; those of its binnings were taken from the files at the commit that is named. Where no checksum
could be found (the CLIC electrons), Zenodo's record is asked when the file is fetched.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PUBLIC", "PublicData", "PublicFile"]

ZENODO = "https://zenodo.org/records/{}/files"
BINNINGS = "https://raw.githubusercontent.com/CaloChallenge/homepage/9b41df72a03aeecb48bfbaa946f9792f255e0ba7/code"


@dataclass(frozen=True)
class PublicFile:
    """A file of a data set.

    Args:
        name: of the file, here and on the server.
        folder: URL of the folder in which it is.
        checksum: ``md5:...`` or ``sha256:...``; None: Zenodo's record of the data set states it.
    """

    name: str
    folder: str
    checksum: str | None


@dataclass(frozen=True)
class PublicData:
    """A data set.

    Args:
        title: what it is.
        page: where it is described.
        record: number of Zenodo's record.
        files: all that is fetched.
        options: of a configuration that learns it.
    """

    title: str
    page: str
    record: int
    files: tuple[PublicFile, ...]
    options: str

    @property
    def archives(self) -> tuple[str, ...]:
        """Names of the files that are unpacked."""
        return tuple(file.name for file in self.files if file.name.endswith(".tar.gz"))


def _challenge(title: str, record: int, md5: dict[str, str], binning: tuple[str, str], options: str) -> PublicData:
    files = [PublicFile(name, ZENODO.format(record), f"md5:{value}") for name, value in md5.items()]
    files.append(PublicFile(binning[0], BINNINGS, f"sha256:{binning[1]}"))
    return PublicData(title, f"https://doi.org/10.5281/zenodo.{record}", record, tuple(files), options)


PUBLIC: dict[str, PublicData] = {
    "calochallenge-1-photons": _challenge(
        "CaloChallenge 1, photons: 368 voxels in 5 layers",
        8099322,
        {
            "dataset_1_photons_1.hdf5": "005d2adeda7db034b388112661265656",
            "dataset_1_photons_2.hdf5": "4767715ed56e99565fd9c67340661e70",
        },
        ("binning_dataset_1_photons.xml", "30786d54defff3d45dada4f4ecb2a4600a1622b3ca2004d40dae01774589a92f"),
        "grid: [5]",
    ),
    "calochallenge-1-pions": _challenge(
        "CaloChallenge 1, charged pions: 533 voxels in 7 layers",
        8099322,
        {
            "dataset_1_pions_1.hdf5": "6a5f52722064a1bcd8a0bc002f16515d",
            "dataset_1_pions_2.hdf5": "fee7457b40127bc23c8ab909e2638ca0",
        },
        ("binning_dataset_1_pions.xml", "3f3c618ff2a6d2a9242d836e7b75d5a8121da71e6b5138eaa206750552f95f44"),
        "grid: [7]",
    ),
    "calochallenge-2": _challenge(
        "CaloChallenge 2, electrons: 6480 voxels in 45 layers",
        6366271,
        {
            "dataset_2_1.hdf5": "e590333e9a2da51b258288d74bd8357a",
            "dataset_2_2.hdf5": "7a56fd68aa53ded37c2ac445694d9736",
        },
        ("binning_dataset_2.xml", "e4e3b6fe0d7934da3a82b716e64129b08374b0aaf5c10b77435d5d520c9b1b86"),
        "grid: [9]",
    ),
    "calochallenge-3": _challenge(
        "CaloChallenge 3, electrons: 40500 voxels in 45 layers",
        6366324,
        {
            "dataset_3_1.hdf5": "d33f03418aa311b0965452fcbef1ff87",
            "dataset_3_2.hdf5": "911dec2c40aafa64a07b7450b80881bf",
            "dataset_3_3.hdf5": "5ea62f6831a1821bb5035fafc9f030e8",
            "dataset_3_4.hdf5": "5e8d82e6a6c28c6914a3b602a1cfa299",
        },
        ("binning_dataset_3.xml", "bf3733aeed62c95933dfe06c031510458f755eea17029da4d12bb0c6e5c9ca11"),
        "grid: [9]",
    ),
    "clic-electrons": PublicData(
        "CLIC calorimeter, electrons at a fixed angle, as the 3DGAN papers use them",
        "https://doi.org/10.5281/zenodo.3603122",
        3603122,
        (PublicFile("Ele_FixedAngle.tar.gz", ZENODO.format(3603122), None),),
        "grid: [8]",
    ),
}
"""All data sets, by name."""
